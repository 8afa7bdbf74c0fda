"""Records that cannot be used: counted by reason, listed, and not too many."""

import collections
import json
import pathlib
import re
from collections.abc import Sequence

from jaxvlm import wholefile

# (name of the row, why it is dropped)
Dropped = tuple[str, str]
# More is no accident, but a mistake in the data or the settings.
MOST = 0.01
# What differs between two rows dropped for one reason.
_PARTICULAR = re.compile(
  r"'[^']*'|\"[^\"]*\"|(?:(?<=picture )|(?<= ))[^\s'\"]*/[^\s'\"]*|\d[\d,.]*"
)


def reasons(dropped: Sequence[Dropped]) -> collections.Counter[str]:
  """Returns how many rows were dropped for each reason.

  Reasons are alike that differ in names, paths and numbers only.
  """
  return collections.Counter(
    _PARTICULAR.sub("…", reason) for _, reason in dropped
  )


def write(file: str | pathlib.Path, dropped: Sequence[Dropped]) -> None:
  """Writes one JSON object a dropped row: {"row": …, "reason": …}."""
  file = pathlib.Path(file)
  file.parent.mkdir(parents=True, exist_ok=True)
  lines = (
    json.dumps({"row": row, "reason": reason}) + "\n" for row, reason in dropped
  )
  wholefile.write_text(file, "".join(lines))


def check(
  dropped: Sequence[Dropped], found: int, *, most: float = MOST
) -> None:
  """Raises ValueError if more than a share of all records was dropped.

  Args:
    dropped: the rows.
    found: how many records there were, dropped ones included.
    most: the share that may be.
  """
  if len(dropped) <= most * found:
    return
  counted = "\n".join(
    f"  {count} × {reason}" for reason, count in reasons(dropped).most_common(5)
  )
  raise ValueError(
    f"{len(dropped)} of {found} rows cannot be used, expected at most"
    f" {most:.0%}; the first is {dropped[0][0]!r}: {dropped[0][1]}\nBy"
    f" reason:\n{counted}"
  )
