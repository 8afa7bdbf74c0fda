"""Compiles the matrix of cells and writes docs/pods.md and docs/pods.json.

Every cell runs in a process of its own with a time limit and leaves a JSON
file; a second start takes up where the first was stopped.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from absl import app, flags

from jaxvlm.plan import matrix, page

_OUT = flags.DEFINE_string("out", "docs", "folder of pods.md and pods.json")
_WORK = flags.DEFINE_string("workdir", "runs/pods", "folder of single cells")
_LIMIT = flags.DEFINE_integer("limit_s", 900, "seconds that a cell may take")
_ONLY = flags.DEFINE_string("only", "", "cells whose name contains this")
_KEEP = flags.DEFINE_bool(
  "keep", False, "keep cells that another version of the code compiled"
)

_ROOT = pathlib.Path(__file__).parents[1]
# What decides the compiled program. The planner's own files do not, nor what
# runs on the host.
_CODE = ("models", "losses", "rollout", "sampling", "train")
_HOST = frozenset(
  _ROOT / file
  for file in (
    "models/qwen2_5_vl/convert.py",
    "models/qwen2_5_vl/names.py",
    "rollout/answer.py",
    "rollout/refill.py",
    "rollout/stream.py",
    "train/carry.py",
    "train/checkpoint.py",
    "train/compiles.py",
    "train/experience.py",
    "train/loop.py",
    "train/manifest.py",
    "train/preemption.py",
    "train/skips.py",
    "train/trained.py",
  )
)
_FILES = (
  "headlayout.py",
  "logitstats.py",
  "sharding.py",
  "tokenstats.py",
  "typing.py",
)


def code_version() -> str:
  """Returns a digest of the sources that the compiled programs come from."""
  digest = hashlib.sha256()
  files = [
    path
    for room in _CODE
    for path in (_ROOT / room).rglob("*.py")
    if path not in _HOST
  ]
  for path in sorted([*files, *(_ROOT / name for name in _FILES)]):
    digest.update(path.relative_to(_ROOT).as_posix().encode())
    digest.update(path.read_bytes())
  return digest.hexdigest()[:12]


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}; see --help")
  work = pathlib.Path(_WORK.value)
  work.mkdir(parents=True, exist_ok=True)
  cells = {
    **matrix.CELLS,
    "scanned": matrix.SCANNED,
    "unrolled": matrix.UNROLLED,
  }
  for number, (name, line) in enumerate(cells.items(), 1):
    if _ONLY.value not in name:
      continue
    file = work / f"{_slug(name)}.json"
    version, known = code_version(), _read(file)
    if known and known["flags"] == line:
      if _KEEP.value or known["code"] == version:
        continue
    print(f"[{number}/{len(cells)}] {name} …", end=" ", flush=True)
    running = work / f"{_slug(name)}.running"
    done = _run(line, running, _LIMIT.value)
    entry = {"name": name, "flags": line, "code": version, **done}
    file.write_text(json.dumps(entry, indent=1) + "\n")
    print(page.verdict(entry), flush=True)
    _write(work, pathlib.Path(_OUT.value), cells)
  _write(work, pathlib.Path(_OUT.value), cells)


def _run(line: str, out: pathlib.Path, limit: int) -> dict[str, Any]:
  """Returns what `jaxvlm plan` says, or why it says nothing."""
  out.unlink(missing_ok=True)
  command = [sys.executable, "-m", "jaxvlm.tools.main", "plan"]
  start = time.perf_counter()
  try:
    done = subprocess.run(
      [*command, *line.split(), f"--json={out}"],
      capture_output=True,
      text=True,
      timeout=limit,
    )
  except subprocess.TimeoutExpired:
    return {"error": f"not compiled within {limit} s"}
  seconds = time.perf_counter() - start
  if not out.is_file():
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return {"error": last, "wall_s": seconds}
  found = json.loads(out.read_text())
  out.unlink()
  return {**found, "wall_s": seconds}


def _write(
  work: pathlib.Path, out: pathlib.Path, cells: Mapping[str, str]
) -> None:
  """Writes the table of all cells that have been compiled so far."""
  entries = [_read(work / f"{_slug(name)}.json") for name in cells]
  entries = [e for e in entries if e and e["flags"] == cells[e["name"]]]
  out.mkdir(parents=True, exist_ok=True)
  (out / "pods.json").write_text(json.dumps(entries, indent=1) + "\n")
  (out / "pods.md").write_text(
    "\n".join(page.lines(entries, code_version())) + "\n"
  )


def _slug(name: str) -> str:
  return "".join(c if c.isalnum() else "-" for c in name)


def _read(file: pathlib.Path) -> dict[str, Any] | None:
  return json.loads(file.read_text()) if file.is_file() else None


def run() -> None:
  app.run(main)


if __name__ == "__main__":
  run()
