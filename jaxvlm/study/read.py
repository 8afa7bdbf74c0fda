"""Reads what a study left on disk: evaluations, journals, samples, settings.

Every evaluation shrinks to a few numbers a problem when it is read, so that a
report over many seeds stays small.
"""

import dataclasses
import json
import pathlib
import re
import zipfile

import numpy as np

from jaxvlm import journal
from jaxvlm.eval.harness import Evaluation
from jaxvlm.study import measured
from jaxvlm.study.design import Design, Point
from jaxvlm.study.results import KS, Results, Scores

_EVALUATION = re.compile(r"(?P<set>[a-z_]+)-(?P<step>\d{5,})\.npz")


def load(
  workdir: pathlib.Path, design: Design, *, must_measure: bool = True
) -> Results:
  """Reads a study's folder; what is unfinished is named, not fatal.

  Args:
    workdir: seed-<s>/<arm>/<stage>/{eval/<set>-<step>.npz, metrics.jsonl},
      samples.json in the last stage, config.json at the top, and measured.npz
      for the seeds whose folders are not there.
    design: the arms, stages and problem sets to read.
    must_measure: a folder without any evaluation is an error; else what it
      lacks of them is no gap.

  Raises:
    ValueError: the folder holds no evaluation, or seeds differ in problems.
  """
  folders = sorted(
    (int(match.group(1)), path)
    for path in workdir.glob("seed-*")
    if (match := re.fullmatch(r"seed-(\d+)", path.name))
  )
  scores: dict = {name: {} for name in design.problem_sets}
  journals: dict = {}
  samples: dict = {}
  gaps: list[str] = []
  for seed, folder in folders:
    for point in design.references:
      where = folder / point.arm / point.stage / "eval"
      _load_points(where, point, seed, scores, gaps)
    for arm in design.arms:
      for stage in design.stages:
        where = folder / arm / stage
        _load_points(where / "eval", Point(arm, stage), seed, scores, gaps)
        if records := journal.read(where / "metrics.jsonl"):
          journals.setdefault((arm, stage), {})[seed] = records
      path = folder / arm / design.last / "samples.json"
      if arm not in samples and path.exists():
        samples[arm] = json.loads(path.read_text(encoding="utf-8"))
  seeds = {seed for seed, _ in folders}
  _add(measured.read(workdir), design, scores, journals, seeds)
  found = any(scores.values())
  if not found and must_measure:
    raise ValueError(
      f"workdir: found no seed-<s>/<arm>/<stage>/eval/<set>-<step>.npz in "
      f"{workdir}, expected at least one evaluation; run the study first: "
      f"{design.command} --workdir=…"
    )
  config = workdir / "config.json"
  results = Results(
    design=design,
    seeds=tuple(sorted(seeds)),
    scores=scores,
    config=json.loads(config.read_text("utf-8")) if config.exists() else {},
    journals=journals,
    samples=samples,
  )
  lacking = _unfinished(results) if found else []
  return dataclasses.replace(results, gaps=(*gaps, *lacking))


def _add(
  kept: measured.Measured,
  design: Design,
  scores: dict,
  journals: dict,
  seeds: set[int],
) -> None:
  """Adds the seeds that the file holds and that have no folder."""
  new = kept.seeds - seeds
  for name in design.problem_sets:
    for point, by_seed in kept.scores.get(name, {}).items():
      of = {seed: found for seed, found in by_seed.items() if seed in new}
      if of:
        scores[name].setdefault(point, {}).update(of)
  for place, by_seed in kept.journals.items():
    of = {seed: found for seed, found in by_seed.items() if seed in new}
    if of:
      journals.setdefault(place, {}).update(of)
  seeds |= new


def _load_points(
  folder: pathlib.Path,
  start: Point,
  seed: int,
  scores: dict,
  gaps: list[str],
) -> None:
  """Adds the evaluations of one folder to `scores`."""
  for path in sorted(folder.glob("*.npz")):
    match = _EVALUATION.fullmatch(path.name)
    if not match or match["set"] not in scores:
      continue
    try:
      with np.load(path, allow_pickle=False) as arrays:
        evaluation = Evaluation.from_arrays(dict(arrays))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
      name = "/".join(path.parts[-5:])
      gaps.append(f"{name} cannot be read ({error}) and is left out.")
      continue
    found = _scores(evaluation)
    point = start._replace(step=int(match["step"]))
    by_seed = scores[match["set"]].setdefault(point, {})
    for other in by_seed.values():
      _require_same_problems(path, found, other)
    by_seed[seed] = found


def _require_same_problems(path, found: Scores, other: Scores) -> None:
  count, expected = (len(scores["length"]) for scores in (found, other))
  if count != expected:
    raise ValueError(
      f"{path}: got {count} problems, expected {expected} as in another seed; "
      "seeds are pooled problem by problem, so evaluate all on the same set"
    )


def _scores(evaluation: Evaluation) -> Scores:
  """Returns one number a problem for every metric."""
  means = {
    name: values.mean(1, dtype=np.float64)
    for name, values in evaluation.scores.items()
    if name != "reward"  # a mixture of the others
  }
  if "accuracy" in means:
    ks = [k for k in KS if k <= evaluation.accuracy.shape[1]]
    means |= {f"pass@{k}": evaluation.pass_at(k) for k in ks}
  return {
    **means,
    "entropy": np.asarray(evaluation.entropy(), np.float64),
    "length": evaluation.lengths.mean(1, dtype=np.float64),
    "distinct_answers": evaluation.distinct_answers(),
  }


def _unfinished(results: Results) -> list[str]:
  """Says which arms, seeds and stages have no final evaluation."""
  design = results.design
  missing = [arm for arm in design.arms if arm not in results.arms]
  lines = [f"Arm {arm} was not run." for arm in missing]
  if design.last and results.last_step < 0:
    lines.append(
      f"No arm has taken a step of {design.last_name} yet: no endpoint."
    )
  measured = [name for name in design.problem_sets if results.scores[name]]
  lines += [
    f"Nothing was evaluated on {name}."
    for name in design.problem_sets
    if name not in measured
  ]
  ends = [0, *(step for step in results.endpoint_steps if step > 0)]
  for arm in results.arms if design.last else ():
    for step in ends if arm not in design.without_last else ():
      point = Point(arm, design.last, step)
      lack = [
        str(seed)
        for seed in results.seeds
        if any(seed not in results.scores[s].get(point, {}) for s in measured)
      ]
      if lack:
        lines.append(
          f"Arm {arm} has no evaluation at the {design.last_name} "
          f"{'endpoint' if step else 'entry'} (step {step}) for seed "
          f"{', '.join(lack)}."
        )
  lines += [
    f"The {name} was not evaluated."
    for point, name in design.references.items()
    if not any(point in points for points in results.scores.values())
  ]
  return lines
