"""Geometry3K from a local folder, scored as in EasyR1's recipe."""

import dataclasses
import functools
import pathlib

from jaxvlm.data import own
from jaxvlm.data.rows import Row
from jaxvlm.data.sources import geometry3k, inter_gps
from jaxvlm.tasks import boxed
from jaxvlm.tasks.task import Task, one_by_one


def rows(folder: str | pathlib.Path, split: str) -> list[Row]:
  """Returns the problems of a split, in whichever layout the folder has.

  Args:
    folder: with <split>.jsonl and images/; with <split>/<id>/data.json, as
      Inter-GPS stores it; or with <split>*.parquet, as in hiyouga/geometry3k.
    split: "train", "val" or "test".

  Raises:
    FileNotFoundError: no such split.
    ValueError: a record that cannot be read.
  """
  folder = pathlib.Path(folder)
  if inter_gps.has(folder, split):
    return inter_gps.rows(folder, split)
  stored = [*folder.glob(f"{split}*.parquet"), *folder.glob("data/*.parquet")]
  if not stored or (folder / f"{split}.jsonl").is_file():
    return geometry3k.rows(folder, split)
  found = own.read(folder, own.problems, split=split, layout="geometry3k")
  if found.dropped:
    raise ValueError(f"{folder}, {found.dropped[0][0]}: {found.dropped[0][1]}")
  return [
    dataclasses.replace(
      row,
      responses=(geometry3k.worked(_text(row.question), row.reference),),
    )
    for row in found.rows
  ]


def _text(question: str) -> str:
  """Returns a question without the picture's place and the instruction."""
  return question.replace("<image>", "").removesuffix(geometry3k.INSTRUCTION)


def task(folder: str | pathlib.Path) -> Task:
  """Returns the task of a folder.

  Args:
    folder: as `rows`.
  """
  return Task(
    name="geometry3k",
    rows=functools.partial(rows, folder),
    reward=one_by_one(boxed.scores),
    metrics=("accuracy", "format"),
    answer=boxed.answer,
    pictures=True,
  )
