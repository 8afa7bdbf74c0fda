"""From a path to rows."""

import collections
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from jaxvlm import bars
from jaxvlm.data.own import hub, layouts
from jaxvlm.data.own.drops import Dropped
from jaxvlm.data.own.example import Example, Layout, Refused
from jaxvlm.data.own.files import Found, files_of, records
from jaxvlm.data.own.forms import Form
from jaxvlm.data.own.pictures import Pictures
from jaxvlm.data.rows import Picture, Row

# Fields of the known layouts whose content no model here reads.
_UNREAD = ("videos", "video", "audios", "audio", "tools")


class Table(NamedTuple):
  """A user's rows.

  Attributes:
    rows: in the order of the files.
    layout: the name of their layout.
    found: how many records there were, those that were dropped included.
    dropped: records that cannot be used, and why; what a survey drops comes on
      top of them (`drops`).
    carrying: how many records have an "answer" to score by, a "response", a
      "rejected" one, "pictures", a "system" prompt, "several turns".
  """

  rows: tuple[Row, ...]
  layout: str
  found: int
  dropped: tuple[Dropped, ...]
  carrying: Mapping[str, int]


def read(
  path: str | pathlib.Path,
  form: Form,
  *,
  split: str = "",
  layout: str = "",
  columns: Mapping[str, str] | None = None,
  pictures: str | pathlib.Path | None = None,
  keep: str | pathlib.Path | None = None,
) -> Table:
  """Returns the rows of a file, a folder of files, or a data set of the Hub.

  Args:
    path: .jsonl, .json or .parquet, a folder of these, or hub:owner/name.
    form: what the rows are for: `answered`, `pairs`, `prompts`, `problems`.
    split: in a folder, the files whose names begin so; of the Hub, the split.
    layout: the name of the layout; "" finds it by the first record's fields.
    columns: name that a layout expects -> name that the files have.
    pictures: the folder that picture paths are relative to and cannot leave;
      None for the folder of the data.
    keep: a folder for pictures that are part of the files; None leaves them in
      memory, which suits small sets only.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a file that is broken as a whole, fields of no known layout, no
      usable record.
    ModuleNotFoundError: a package for parquet or for the Hub is absent.
  """
  chosen = layouts.named(layout) if layout else None
  root, found = _records(str(path), split)
  finder = Pictures(
    root if pictures is None else pathlib.Path(pictures).expanduser(),
    None if keep is None else pathlib.Path(keep).expanduser(),
  )
  rows: dict[str, Row] = {}
  dropped: list[Dropped] = []
  carrying: collections.Counter[str] = collections.Counter()
  count = 0
  for one in bars.bar(found, "rows", leave=False, delay=bars.PATIENCE):
    count += 1
    try:
      record = _checked(one, columns or {})
      # A field that is null here may be what tells the layout.
      chosen = chosen or layouts.of(record)
      example = _parsed(chosen, _filled(record))
      name = example.id or one.place
      name = f"{name} ({one.place})" if name in rows else name
      images = [_present(finder.find(image)) for image in example.images]
      made = form(name, example, images)
    except ValueError as e:
      if isinstance(e, Refused):
        raise ValueError(f"{path}, {one.place}: {e}") from e
      dropped.append((one.place, str(e)))
      continue
    rows.update((row.id, row) for row in made)
    carrying.update(_carried(example))
  if not rows or chosen is None:
    why = dropped[0] if dropped else (str(path), "there is no record")
    raise ValueError(
      f"none of {count} records of {path} can be used; the first, {why[0]}:"
      f" {why[1]}"
    )
  return Table(
    tuple(rows.values()), chosen.name, count, tuple(dropped), dict(carrying)
  )


def _records(path: str, split: str) -> tuple[pathlib.Path, Iterator[Found]]:
  """Returns (folder of pictures, records)."""
  if hub.is_name(path):
    return hub.root(path), hub.records(path, split)
  place = pathlib.Path(path).expanduser()
  files = files_of(place, split)
  root = place if place.is_dir() else place.parent
  return root, (found for file in files for found in records(file))


def _checked(found: Found, columns: Mapping[str, str]) -> dict:
  """Returns a record under the layout's names."""
  if found.error:
    raise ValueError(found.error)
  if not isinstance(found.value, dict):
    raise ValueError(
      f"the record is a {type(found.value).__name__}, expected an object"
    )
  named = dict(found.value)
  for expected, given in columns.items():
    if given not in named:
      raise ValueError(
        f"there is no column {given!r}, which is to be read as {expected!r};"
        f" expected one of {', '.join(named)}"
      )
    named[expected] = named.pop(given)
  unread = [name for name in _UNREAD if named.get(name)]
  if unread:
    raise ValueError(
      f"the record has {', '.join(unread)}, which would be left out: expected"
      " texts and pictures only"
    )
  return named


def _filled(record: dict) -> dict:
  """Returns the fields that say something."""
  return {name: value for name, value in record.items() if value is not None}


def _present(picture: Picture) -> Picture:
  """Returns a picture, or says that its file is not there.

  A survey would say so, too, but later than the count of dropped rows.
  """
  # `os.path` takes a name that is too long for absent, where pathlib raises.
  if isinstance(picture, pathlib.Path) and not os.path.exists(picture):
    raise ValueError(f"picture {str(picture)[:300]} does not exist")
  return picture


def _parsed(layout: Layout, record: dict) -> Example:
  try:
    return layout.parse(record)
  except RecursionError as e:
    raise ValueError(f"the record is nested too deeply: {e}") from e


def _carried(example: Example) -> list[str]:
  users = [turn for turn in example.turns if turn.role == "user"]
  carried = {
    "answer": bool(example.answer),
    "response": example.turns[-1].role == "assistant",
    "rejected": example.rejected is not None,
    "pictures": bool(example.images),
    "system": example.turns[0].role == "system",
    "several turns": len(users) > 1,
  }
  return [name for name, value in carried.items() if value]
