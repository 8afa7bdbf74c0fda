"""Geometry3K from a local folder, scored as in EasyR1's recipe."""

import functools
import pathlib

from jaxvlm.data.sources import geometry3k
from jaxvlm.tasks import boxed
from jaxvlm.tasks.task import Task, one_by_one


def task(folder: str | pathlib.Path) -> Task:
  """Returns the task of a folder (`data.sources.geometry3k.rows`).

  Args:
    folder: with <split>.jsonl and images/.
  """
  return Task(
    name="geometry3k",
    rows=functools.partial(geometry3k.rows, folder),
    reward=one_by_one(boxed.scores),
    metrics=("accuracy", "format"),
    answer=boxed.answer,
    pictures=True,
  )
