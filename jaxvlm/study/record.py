"""config.json: what a workdir was made with, what a later start may change."""

import dataclasses
import json
import logging
import pathlib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxvlm import __version__, wholefile
from jaxvlm import config as configs
from jaxvlm.eval.harness import ProblemSet
from jaxvlm.sharding import MeshConfig, device_layout
from jaxvlm.study.config import StageConfig, StudyConfig
from jaxvlm.train.monitor import MonitorConfig

# Calls with one workdir share all other settings, but for lengths.
_MAY_CHANGE = {"arms", "seeds", "first_seed", "mesh"}
# Settings of stages that came after the first runs, and what those ran with: a
# run that began without them goes on.
_LATER = {
  "minibatches": 1,
  "drop_degenerate": False,
  "mask_overlong": False,
  "monitor": configs.to_json(MonitorConfig()),
}


def digest(config: StudyConfig) -> str:
  """Returns what a checkpoint's settings are known by.

  What may change between two starts is left out: arms, seeds, mesh, and the
  lengths of stages, on which no step depends (`check` says which may grow).
  """
  stages = {
    name: dataclasses.replace(stage, steps=1)
    for name, stage in config.stages.items()
  }
  settings = configs.to_json(
    dataclasses.replace(
      config, arms=(), seeds=1, first_seed=0, mesh=MeshConfig(), **stages
    )
  )
  for name in stages:
    for later, before in _LATER.items():
      if settings[name].get(later) == before:
        del settings[name][later]
  return configs.digest_of(settings)


def check(
  config: StudyConfig,
  workdir: pathlib.Path,
  evaluation: Sequence[ProblemSet] = (),
  *,
  followed_by: Mapping[str, str] | None = None,
) -> list[str]:
  """Refuses a workdir made with other settings; changes nothing.

  Args:
    config: the settings of this start.
    workdir: where an earlier start may have been.
    evaluation: what is measured; not compared where it is not known yet.
    followed_by: stage in the settings -> folder (arm/stage) of the stage that
      begins where it ends.

  Returns:
    What goes on in another way than it began, in sentences.

  Raises:
    ValueError: naming the settings that differ, or the stage whose length
      cannot change and why.
  """
  saved, now = _saved(workdir), _settings(config, evaluation)
  if not saved:
    return []
  for name in config.stages.keys() & saved.keys():
    for later, before in _LATER.items():
      if later in now[name]:
        saved[name].setdefault(later, before)
  lengths = {
    name: (saved[name]["steps"], now[name]["steps"])
    for name in config.stages
    if saved.get(name, {}).get("steps", now[name]["steps"])
    != now[name]["steps"]
  }
  notes = [
    _lengthened(
      workdir,
      name,
      config.stages[name],
      saved[name],
      *steps,
      (followed_by or {}).get(name),
    )
    for name, steps in lengths.items()
  ]
  for name, (old, _) in lengths.items():
    now[name]["steps"] = old
  names = now.keys() - _MAY_CHANGE
  different = _differences(
    {name: saved.get(name) for name in names},
    {name: now[name] for name in names},
  )
  if different:
    raise ValueError(
      f"{workdir} was made with other settings: {'; '.join(different)}."
      " Give the same ones to resume, or another --workdir"
    )
  changed = _differences({"mesh": saved.get("mesh")}, {"mesh": now["mesh"]})
  if changed:
    notes.append(
      f"{'; '.join(changed)}: the run goes on where it was, on another mesh;"
      " sums are taken in another order, so that it is equal to a run on one"
      " mesh up to rounding, and no longer to the bit"
    )
  return notes


def write(
  config: StudyConfig,
  workdir: pathlib.Path,
  evaluation: Sequence[ProblemSet] = (),
  *,
  followed_by: Mapping[str, str] | None = None,
  rows: Mapping[str, Any] = types.MappingProxyType({}),
) -> None:
  """Checks, says what changes, writes config.json in one rename.

  Args:
    config: settings.
    workdir: where the record is.
    evaluation: what is measured.
    followed_by: as in `check`.
    rows: of the rows to learn from; a run's identity has their digest, so that
      they are not compared here.
  """
  notes = check(config, workdir, evaluation, followed_by=followed_by)
  for note in notes:
    logging.warning("%s: %s", workdir, note)
  workdir.mkdir(parents=True, exist_ok=True)
  record = {
    **_settings(config, evaluation),
    "command": " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
    "version": __version__,
    "jax": jax.__version__,
    "devices": device_layout(),
    "rows": dict(rows),
    "changes": [*_saved(workdir).get("changes", ()), *notes],
  }
  wholefile.write_text(workdir / "config.json", json.dumps(record, indent=1))


def _settings(
  config: StudyConfig, evaluation: Sequence[ProblemSet]
) -> dict[str, Any]:
  settings = configs.to_json(config)
  if evaluation:
    # What is measured: asked for, found, dropped and why, digest.
    settings["problems"] = {
      problems.name: problems.record() for problems in evaluation
    }
  return settings


def _saved(workdir: pathlib.Path) -> dict[str, Any]:
  path = workdir / "config.json"
  return json.loads(path.read_text()) if path.is_file() else {}


def _lengthened(
  workdir: pathlib.Path,
  name: str,
  stage: StageConfig,
  saved: Mapping[str, Any],
  old: int,
  new: int,
  follower: str | None,
) -> str:
  """Returns what another length of a stage means; ValueError if it cannot be.

  A step depends on its number, never on the length of the run, so that a
  lengthened run is the run that was planned so, to the bit.
  """
  what = f"{name}.steps is {old} there, {new} here"
  instead = f"give {old} to resume, or another --workdir"
  if new < old:
    raise ValueError(
      f"{workdir}: {what}: a stage can be lengthened, not shortened; {instead}"
    )
  decay, warmup = stage.optimizer.decay_steps, stage.optimizer.warmup_steps
  before = saved.get("optimizer", {}).get("decay_steps", decay)
  if before != decay:
    raise ValueError(
      f"{workdir}: {what}, and {name}.optimizer.decay_steps {before} there,"
      f" {decay} here: a decay of another length changes the rate of steps"
      f" that were taken already; {instead}"
    )
  if decay and warmup + decay < new:
    raise ValueError(
      f"{workdir}: {what}: the learning rate has decayed to its end after step"
      f" {warmup + decay} ({name}.optimizer.decay_steps is {decay}), and a"
      " longer decay would change steps that were taken already; lengthen up to"
      f" step {warmup + decay}, or {instead}"
    )
  begun = sorted(workdir.glob(f"seed-*/{follower}/checkpoints/manifest-*"))
  if follower and begun:
    stage = begun[0].parents[1].relative_to(workdir)
    raise ValueError(
      f"{workdir}: {what}, but {stage} has begun where {name} ends after {old}"
      f" steps: a longer one would be another beginning; {instead}"
    )
  return (
    f"{what}: every arm goes on to step {new}, as if it had been planned so;"
    f" the evaluation at step {old} stays beside the later ones"
  )


def _differences(saved: dict, now: dict, prefix: str = "") -> list[str]:
  """Returns "name: old there, new here" of every leaf that differs."""
  out = []
  for name in sorted(saved.keys() | now.keys()):
    old, new = saved.get(name), now.get(name)
    if isinstance(old, dict) and isinstance(new, dict):
      out += _differences(old, new, f"{prefix}{name}.")
    elif old != new:
      out.append(f"{prefix}{name} is {old} there, {new} here")
  return out


def progress(workdir: pathlib.Path) -> str:
  """Returns what a start with the same command finds, in half a sentence."""
  found = [
    (
      path.stat().st_mtime_ns,
      int(path.stem.rpartition("-")[2]),
      path.parents[1],
    )
    for path in workdir.glob("seed-*/*/*/checkpoints/manifest-*.json")
  ]
  if not found:
    return "no step is saved yet"
  _, step, stage = max(found)
  return f"step {step} of {stage.relative_to(workdir)} is saved"
