"""skipped.jsonl: which rows were in the batches that the guard refused.

Rows as planned: one whose picture could not be read stands for the spare that
took its place, which the log of that process names.
"""

import json
import math
import pathlib
from collections.abc import Sequence

from jaxvlm import wholefile

NAME = "skipped.jsonl"


def append(
  path: pathlib.Path,
  step: int,
  loss: float,
  grad_norm: float,
  row_ids: Sequence[str],
) -> None:
  """Adds one line: the step (counted from 1), its numbers, its rows."""
  record = {
    "step": step,
    "loss": _plain(loss),
    "grad_norm": _plain(grad_norm),
    "rows": list(row_ids),
  }
  with path.open("a", encoding="utf-8") as file:
    file.write(json.dumps(record, allow_nan=False) + "\n")


def truncate(path: pathlib.Path, step: int) -> None:
  """Cuts the lines after `step` and one that a kill tore, atomically."""
  if not path.exists():
    return
  kept = []
  for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
    # Lines are in order, and only the last one can be torn.
    if not line.endswith("\n") or json.loads(line)["step"] > step:
      break
    kept.append(line)
  wholefile.write_text(path, "".join(kept))


def _plain(value: float) -> float | str:
  # JSON has no NaN; as in the journal, a string stands for it.
  return value if math.isfinite(value) else str(value)
