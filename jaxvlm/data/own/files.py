"""Files of records: which ones there are, and their records one by one."""

import decimal
import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

_ENDINGS = (".jsonl", ".json", ".parquet")
_BOM = b"\xef\xbb\xbf"
_BATCH = 64  # rows of a parquet file in memory at a time


class Found(NamedTuple):
  """A record, or why there is none.

  Attributes:
    place: names it where it has no name of its own.
    value: what was read.
    error: what is wrong, "" if nothing.
  """

  place: str
  value: Any
  error: str = ""


def files_of(path: pathlib.Path, split: str = "") -> list[pathlib.Path]:
  """Returns the data files of a path: itself, or those in a folder.

  In a folder, and in its folder `data`, files count that begin with the split's
  name, as in folders of the Hub; without a split all of them.

  Raises:
    FileNotFoundError: nothing there.
    ValueError: a file of another kind.
  """
  if path.is_file():
    if path.suffix not in _ENDINGS:
      raise ValueError(
        f"{path} ends in {path.suffix or 'nothing'}, expected one of"
        f" {', '.join(_ENDINGS)}, or a folder of such files"
      )
    return [path]
  if not path.is_dir():
    raise FileNotFoundError(
      f"{path} does not exist: expected a file ({', '.join(_ENDINGS)}) or a"
      " folder of such files; a data set of the Hub is written hub:owner/name"
    )
  found = sorted(
    file
    for folder in (path, path / "data")
    if folder.is_dir()
    for file in folder.iterdir()
    if file.suffix in _ENDINGS and file.is_file()
    if file.name.startswith(split) or not split
  )
  if not found:
    told = f" of split {split!r}" if split else ""
    raise FileNotFoundError(
      f"{path} has no data file{told}, expected files whose names end in"
      f" {', '.join(_ENDINGS)}"
      + (" and begin with the split's name" if split else "")
    )
  return found


def records(file: pathlib.Path) -> Iterator[Found]:
  """Yields what a file holds; numbers with a point are `decimal.Decimal`.

  A broken line of JSONL is a record that cannot be read. A broken JSON array
  or parquet file ends the reading, because what follows is lost.

  Raises:
    ValueError: a file that is broken as a whole; names it.
    ModuleNotFoundError: parquet, and pyarrow is absent.
  """
  if file.suffix == ".parquet":
    yield from _parquet(file)
    return
  with file.open("rb") as stream:
    first = stream.read(256).removeprefix(_BOM).lstrip()[:1]
  # Many files that end in .json hold one object a line.
  yield from (_array(file) if first == b"[" else _lines(file))


def _lines(file: pathlib.Path) -> Iterator[Found]:
  with file.open("rb") as stream:
    for number, line in enumerate(stream, 1):
      line = line.removeprefix(_BOM) if number == 1 else line
      if not line.strip():
        continue
      place = f"{file.name}:{number}"
      try:
        yield Found(place, json.loads(line, parse_float=decimal.Decimal))
      except (ValueError, RecursionError) as e:
        yield Found(place, None, f"the line is no JSON: {e}")


def _array(file: pathlib.Path) -> Iterator[Found]:
  content = file.read_bytes().removeprefix(_BOM)
  try:
    values = json.loads(content, parse_float=decimal.Decimal)
  except (ValueError, RecursionError) as e:
    raise ValueError(
      f"{file} is no JSON: {e}; expected an array of objects, or an object a"
      " line"
    ) from e
  for number, value in enumerate(values, 1):
    yield Found(f"{file.name}:{number}", value)


def _parquet(file: pathlib.Path) -> Iterator[Found]:
  try:
    import pyarrow
    from pyarrow import parquet
  except ModuleNotFoundError as e:
    raise ModuleNotFoundError(
      f"{file} is parquet, which needs the package pyarrow; install"
      " jaxvlm[parquet], or save the rows as JSONL"
    ) from e
  number = 0
  try:
    with parquet.ParquetFile(file) as opened:
      # A few rows at a time: pictures stand in them.
      for batch in opened.iter_batches(batch_size=_BATCH):
        for value in batch.to_pylist():
          number += 1
          yield Found(f"{file.name}:{number}", value)
  except (pyarrow.ArrowException, OSError, ValueError) as e:
    raise ValueError(
      f"{file} cannot be read behind row {number}: {e}; expected a whole"
      " parquet file, copy it again"
    ) from e
