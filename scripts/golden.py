"""Runs the same short studies with two commits and compares them bit by bit.

  python scripts/golden.py OLD NEW

What a refactoring must leave as it was: the parameters, the optimizer's state
and the carry of every stage's last checkpoint, and every metric of every step
but `time/…`. Both commits run here, one after the other, because the bits of a
matrix product depend on the processor. Prints a table and exits 1 where
anything differs.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_STUDY = "experiments.stage1_entropy.run"

# Compiling takes longest, and what is compared holds at any level of it.
_CHEAP = (
  "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
  " --xla_cpu_use_fusion_emitters=false"
)
# Few steps of everything.
_TINY = (
  "--quick",
  "--data.traces=24",
  "--data.train_problems=24",
  "--evaluation.every=3",
  "--evaluation.in_domain=4",
  "--evaluation.out_of_domain=4",
  "--evaluation.samples=2",
  "--evaluation.prompts=4",
  "--sft_over.steps=3",
  "--sft_over.evaluate_every=0",
  "--sft_over.prompts=4",
  "--opd.steps=3",
  "--opd.evaluate_every=0",
  "--opd.prompts=4",
  "--grpo.steps=3",
  "--grpo.prompts=4",
  "--grpo.group=4",
)

# name -> flags: what the house can train. Layers are unrolled in one job and
# scanned over in the others, which compiles faster.
JOBS = {
  "study": ("--arms=sft_over,opd",),
  "lora": (
    "--arms=base",
    "--scan_layers",
    "--lora_rank=4",
    "--grpo.micro_batches=2",
    "--grpo.kl_coef=0.01",
  ),
  "carry": (
    "--arms=base",
    "--scan_layers",
    "--grpo.slots.rows=3",
    "--grpo.slots.width=2",
    "--grpo.slots.segment=8",
    "--grpo.carry=2",
  ),
  "int8_teacher": (
    "--arms=opd",
    "--scan_layers",
    "--int8_teacher",
    "--grpo.steps=1",
  ),
}


class Found(NamedTuple):
  """What a job left behind, by name: stage, then array or step and metric."""

  arrays: Mapping[str, np.ndarray]
  metrics: Mapping[str, Any]


def check_out(commit: str, folder: pathlib.Path) -> None:
  """Writes the files of a commit into an empty folder."""
  folder.mkdir(parents=True)
  archive = subprocess.run(
    ["git", "-C", str(_ROOT), "archive", "--format=tar", commit],
    check=True,
    stdout=subprocess.PIPE,
  )
  subprocess.run(
    ["tar", "-x", "-C", str(folder)], check=True, input=archive.stdout
  )


def run(
  source: pathlib.Path,
  workdir: pathlib.Path,
  arguments: Sequence[str],
  xla_flags: str,
) -> float:
  """Runs the study of a source tree and returns its seconds.

  Args:
    source: the tree.
    workdir: made here.
    arguments: flags of the study.
    xla_flags: how to compile.

  Raises:
    RuntimeError: the study failed; ends with its last lines.
  """
  # Jobs and commits share compiled programs: one that is the same to the
  # letter is compiled once, any other by itself.
  programs = workdir.parent / "xla"
  programs.mkdir(exist_ok=True)
  workdir.mkdir()
  (workdir / "xla").symlink_to(programs)
  command = [sys.executable, "-m", _STUDY, f"--workdir={workdir}", *arguments]
  settings = {"PYTHONPATH": str(source), "XLA_FLAGS": xla_flags}
  begin = time.monotonic()
  done = subprocess.run(
    command,
    cwd=source,
    env={**os.environ, **settings},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  if done.returncode:
    last = "\n".join(done.stdout.splitlines()[-20:])
    raise RuntimeError(f"{' '.join(command)} in {source} failed:\n{last}")
  return time.monotonic() - begin


def read(workdir: pathlib.Path) -> Found:
  """Returns the last checkpoint and the metrics of every stage.

  Raises:
    ValueError: no stage is there.
  """
  arrays: dict[str, np.ndarray] = {}
  metrics: dict[str, Any] = {}
  for log in sorted(workdir.rglob("metrics.jsonl")):
    stage = log.parent.relative_to(workdir).as_posix()
    for line in log.read_text().splitlines():
      record = json.loads(line)
      for name, value in record.items():
        if not name.startswith("time/"):
          metrics[f"{stage} step {record['step']} {name}"] = value
    for name, array in _newest(log.parent / "checkpoints"):
      arrays[f"{stage} {name}"] = array
  if not arrays:
    raise ValueError(f"{workdir}: no checkpoint, expected one of each stage")
  return Found(arrays, metrics)


def _newest(folder: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
  import jax
  import orbax.checkpoint as ocp

  steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
  with ocp.StandardCheckpointer() as checkpointer:
    tree = checkpointer.restore(folder.absolute() / str(max(steps)))
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield jax.tree_util.keystr(path), np.asarray(leaf)


def difference(old: Found, new: Found) -> str:
  """Returns the first difference in words, "" where all is equal."""
  for was, now in zip(old, new, strict=True):
    for name in [*was, *(name for name in now if name not in was)]:
      if name not in now or name not in was:
        return f"{name}: only in {'OLD' if name in was else 'NEW'}"
      if not _same(was[name], now[name]):
        return f"{name}: {_shown(was[name])} is now {_shown(now[name])}"
  return ""


def _same(a: Any, b: Any) -> bool:
  if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
    # Bits, not values: NaN equals itself, and 0 is not -0.
    alike = (a.dtype, a.shape) == (b.dtype, b.shape)
    return alike and a.tobytes() == b.tobytes()
  return json.dumps(a) == json.dumps(b)


def _shown(value: Any) -> str:
  if isinstance(value, np.ndarray):
    first = value.reshape(-1)[:3].tolist()
    return f"{value.dtype}{list(value.shape)} {first}"
  return json.dumps(value)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("old", help="a commit")
  parser.add_argument("new", help="a commit")
  parser.add_argument(
    "--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="JOB"
  )
  parser.add_argument(
    "--change", action="append", default=[], metavar="FLAG",
    help="one more flag of the study for NEW alone: shows that the comparison"
    " sees it, as --change=--grpo.optimizer.peak_lr=1e-3",
  )  # fmt: skip
  parser.add_argument(
    "--optimize", action="store_true", help="compile as a user does; slow"
  )
  options = parser.parse_args()
  # Told to end, it ends the study and removes what it wrote.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  os.environ["JAX_PLATFORMS"] = "cpu"  # of the studies, and for reading
  xla_flags = "" if options.optimize else _CHEAP
  equal = True
  with tempfile.TemporaryDirectory(prefix="golden-") as temporary:
    here = pathlib.Path(temporary)
    for side in ("old", "new"):
      check_out(getattr(options, side), here / side)
    print(f"{'job':14}{'old s':>7}{'new s':>7}{'arrays':>8}{'metrics':>9}")
    for job in options.jobs:
      found, seconds = [], []
      for side, more in (("old", []), ("new", options.change)):
        # One path for all: jax counts it among what a program depends on.
        workdir, source = here / "workdir", here / side
        arguments = [*_TINY, *JOBS[job], *more]
        seconds.append(run(source, workdir, arguments, xla_flags))
        found.append(read(workdir))
        shutil.rmtree(workdir)
      first = difference(*found)
      equal = equal and not first
      print(
        f"{job:14}{seconds[0]:7.0f}{seconds[1]:7.0f}"
        f"{len(found[0].arrays):8}{len(found[0].metrics):9}"
        f"  {first or 'equal'}",
        flush=True,
      )
  return 0 if equal else 1


if __name__ == "__main__":
  sys.exit(main())
