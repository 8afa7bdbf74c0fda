"""MathVista, for evaluation only; answers are extracted by rules."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxvlm.data.sources import mathvista as source
from jaxvlm.rewards import mathvista as rules
from jaxvlm.tasks.task import Task, one_by_one


def scores(response: str, reference: Mapping[str, Any]) -> dict[str, float]:
  """Returns accuracy, reward (the same), and whether an answer was found.

  Args:
    response: the completion's text.
    reference: the fields of a `rules.Question`.
  """
  return rules.scores(response, rules.Question(**reference))


def task(folder: str | pathlib.Path) -> Task:
  """Returns the task of a folder (`data.sources.mathvista.rows`).

  Its one split is "testmini"; asking for another, as training does, is refused.

  Args:
    folder: with testmini*.jsonl or parquet and images/.
  """
  return Task(
    name="mathvista",
    rows=functools.partial(source.rows, folder),
    reward=one_by_one(scores),
    metrics=("accuracy", "parsed"),
    pictures=True,
  )
