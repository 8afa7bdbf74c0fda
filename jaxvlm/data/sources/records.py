"""Lines of a JSONL file, answers as exact text, paths that stay in a folder."""

import decimal
import gzip
import json
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

# A number with more digits than this is a mistake; 1e999999999 would fill
# the memory.
_MOST_DIGITS = 400


def records(file: pathlib.Path) -> Iterator[tuple[int, Any]]:
  """Yields (line number, value) of every line that is not blank.

  A file whose name ends in .gz is unpacked. Lines end as on any system, the
  last one also without an end; a byte order mark is passed over. Numbers with a
  point are `decimal.Decimal`, so that their digits stay those of the file.

  Raises:
    ValueError: a line that is no JSON; names file and line.
  """
  # Bytes, because JSON strings may hold characters at which str.splitlines
  # breaks a line.
  whole = file.read_bytes()
  if file.suffix == ".gz":
    whole = _unpacked(file, whole)
  whole = whole.removeprefix(b"\xef\xbb\xbf")
  for number, line in enumerate(whole.splitlines(), 1):
    if not line.strip():
      continue
    try:
      yield number, json.loads(line, parse_float=decimal.Decimal)
    except (ValueError, RecursionError) as e:
      raise ValueError(
        f"{file}, line {number}: {type(e).__name__} {e}; expected a JSON object"
      ) from e


def _unpacked(file: pathlib.Path, data: bytes) -> bytes:
  try:
    return gzip.decompress(data)
  except (OSError, EOFError, zlib.error) as e:
    raise ValueError(f"{file}: {e}; expected a file packed by gzip") from e


def answer_text(value: Any) -> str:
  """Returns an answer as text: "47" of "47", 47, 47.0 and ["47"].

  A list of one is read as its element, because many sets store the final
  answer so; null is an empty answer, which the survey drops and names.

  Raises:
    TypeError: no text and no finite number: an object, a boolean, NaN, a list
      of any other length.
  """
  if isinstance(value, list) and len(value) == 1:
    (value,) = value
  if value is None:
    return ""
  if isinstance(value, str):
    return value
  if isinstance(value, int) and not isinstance(value, bool):
    return str(value)
  if isinstance(value, decimal.Decimal) and _is_short(value):
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
  raise TypeError(
    f"answer is {json.dumps(value, default=str)[:80]}, expected a text, a"
    " finite number, or a list of one of these"
  )


def _is_short(value: decimal.Decimal) -> bool:
  digits = len(value.as_tuple().digits)
  return value.is_finite() and max(digits, abs(value.adjusted())) < _MOST_DIGITS


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
  """Returns folder / name, refusing what leaves the folder."""
  try:
    path = (folder / name).resolve()
  except (ValueError, OSError, RuntimeError):  # NUL, a loop of links
    path = None
  if path is None or not path.is_relative_to(folder.resolve()):
    raise ValueError(
      f"image path {name!r} leaves the data folder {folder}; expected a path"
      " relative to it"
    )
  return path
