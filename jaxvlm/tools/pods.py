"""Compiles the matrix of cells and writes docs/pods.md and docs/pods.json.

Every cell runs in a process of its own with a time limit and leaves a JSON
file; a second start compiles what is missing, failed, or has become another
program since (`jaxvlm.plan.cell.fingerprint`). A cell without a file is taken
from the table that is there already. What --only leaves out is not even traced:
it stays in the table as it was, and keeps its mark.
"""

import json
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from absl import flags

from jaxvlm import config as configs
from jaxvlm import program
from jaxvlm.plan import matrix, page

_OUT = configs.define_path("out", "docs", "folder of pods.md and pods.json")
_WORK = configs.define_path("workdir", "runs/pods", "folder of single cells")
_LIMIT = flags.DEFINE_integer("limit_s", 900, "seconds that a cell may take")
_ONLY = flags.DEFINE_string(
  "only", "", "compile cells in whose name this expression is found"
)
_KEEP = flags.DEFINE_bool(
  "keep", False, "compile what is missing; what has changed is only marked"
)

_PLAN = (sys.executable, "-m", "jaxvlm.tools.main", "plan")


@program.on_interrupt("finished cells are kept, the same command goes on")
def main() -> None:
  work = pathlib.Path(_WORK.value)
  work.mkdir(parents=True, exist_ok=True)
  cells = {
    **matrix.CELLS,
    "scanned": matrix.SCANNED,
    "unrolled": matrix.UNROLLED,
  }
  written = _table(pathlib.Path(_OUT.value) / "pods.json")
  for name in cells.keys() & written.keys():
    file = work / f"{_slug(name)}.json"
    if not file.is_file():
      file.write_text(json.dumps(written[name], indent=1) + "\n")
  for number, (name, line) in enumerate(cells.items(), 1):
    if not re.search(_ONLY.value, name):
      continue
    file = work / f"{_slug(name)}.json"
    known = _read(file)
    usable = known and known["flags"] == line and "error" not in known
    fingerprint = _fingerprint(line)
    same = usable and known.get("fingerprint") == fingerprint
    if same or (usable and _KEEP.value):
      entry = {**known, page.OLD: not same}
    else:
      print(f"[{number}/{len(cells)}] {name} …", end=" ", flush=True)
      running = work / f"{_slug(name)}.running"
      done = _run(line, running, _LIMIT.value)
      given = {"name": name, "flags": line, "fingerprint": fingerprint}
      entry = {**given, page.OLD: False, **done}
      print(page.verdict(entry), flush=True)
    file.write_text(json.dumps(entry, indent=1) + "\n")
    _write(work, pathlib.Path(_OUT.value), cells)
  _write(work, pathlib.Path(_OUT.value), cells)


def _fingerprint(line: str) -> str:
  """Returns the digest of the program that the code now makes."""
  done = subprocess.run(
    [*_PLAN, *line.split(), "--fingerprint"], capture_output=True, text=True
  )
  return done.stdout.strip()


def _run(line: str, out: pathlib.Path, limit: int) -> dict[str, Any]:
  """Returns what `jaxvlm plan` says, or why it says nothing."""
  out.unlink(missing_ok=True)
  start = time.perf_counter()
  try:
    done = subprocess.run(
      [*_PLAN, *line.split(), f"--json={out}"],
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
  (out / "pods.md").write_text("\n".join(page.lines(entries)) + "\n")


def _table(file: pathlib.Path) -> dict[str, Any]:
  """Returns the cells of a table that was written before, by name."""
  if not file.is_file():
    return {}
  return {entry["name"]: entry for entry in json.loads(file.read_text())}


def _slug(name: str) -> str:
  return "".join(c if c.isalnum() else "-" for c in name)


def _read(file: pathlib.Path) -> dict[str, Any] | None:
  return json.loads(file.read_text()) if file.is_file() else None


def run() -> None:
  program.run(main, "jaxvlm.tools.pods")


if __name__ == "__main__":
  run()
