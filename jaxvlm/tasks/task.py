"""A task: its rows and the verifier of answers to them, in one value.

What a reference is (a number, five captions, unit tests) only its task knows.
Whoever samples or trains passes the task on and asks it.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxvlm.data.chat import Chat
from jaxvlm.data.rows import Row

# (n responses, the n rows they answer) -> n numbers by name, "reward" among
# them. It sees a whole batch, so that a sandbox or a metric of a corpus can
# pool it.
Reward = Callable[
  [Sequence[str], Sequence[Row]], Mapping[str, Sequence[float] | np.ndarray]
]


# What a run logs as reward/… of "reward" itself; scores have other names.
LOGGED = ("mean", "degenerate_groups")


def _whole(response: str) -> str:
  return response


@dataclasses.dataclass(frozen=True)
class Task:
  """Problems with their verifier.

  Attributes:
    name: names the task in messages.
    rows: split -> its rows; a lazy sequence may be endless.
    reward: scores responses.
    metrics: the scores that reports show, the headline first: by it
      checkpoints are ranked.
    answer: response -> the final answer in it, "" where there is none. Answers
      are kept, and different ones are counted.
    pictures: whether its rows have pictures.
    stop: strings that end a completion, as the task's protocol says. A reward
      ends an answer there in any case.
    version: of the rules that score; stored with every number, and part of a
      run's identity where it is given.
  """

  name: str
  rows: Callable[[str], Sequence[Row]]
  reward: Reward
  metrics: tuple[str, ...]
  answer: Callable[[str], str] = _whole
  pictures: bool = False
  stop: tuple[str, ...] = ()
  version: str = ""

  def __post_init__(self):
    if isinstance(self.metrics, str) or not self.metrics:
      raise ValueError(
        f"task {self.name!r}: metrics are {self.metrics!r}, expected a tuple of"
        ' names of scores, such as ("accuracy",)'
      )


def check_readable(task: Task, chat: Chat) -> None:
  """Raises ValueError for a task of pictures and a model that reads text."""
  if task.pictures and chat.layout is None:
    raise ValueError(
      f"task {task.name!r} has pictures, and the model reads text only; choose"
      " another task, or a model that reads pictures"
    )


def one_by_one(grade: Callable[[str, Any], Mapping[str, float]]) -> Reward:
  """Returns the reward that asks `grade` of each (response, reference)."""

  def reward(
    responses: Sequence[str], rows: Sequence[Row]
  ) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for response, row in zip(responses, rows, strict=True):
      one = grade(response, row.reference)
      if found and one.keys() != found.keys():
        raise ValueError(
          f"the scores of row {row.id!r} are {', '.join(one)}, expected"
          f" {', '.join(found)} as of the rows before"
        )
      for name, value in one.items():
        found.setdefault(name, []).append(value)
    return found

  return reward


def score(
  task: Task, responses: Sequence[str], rows: Sequence[Row]
) -> dict[str, np.ndarray]:
  """Returns what the task's reward says of responses, f32[n] by name.

  Args:
    task: whose reward is asked.
    responses: n texts.
    rows: the n rows that they answer.

  Raises:
    ValueError: the reward returned anything but a mapping of names to n finite
      numbers, or lacks "reward" or one of the task's metrics. A NaN would make
      the advantages of its whole group NaN, and the step would be skipped.
  """
  found = task.reward(responses, rows)
  told = f"the reward of task {task.name!r}"
  required = ("reward", *task.metrics)
  if not isinstance(found, Mapping):
    raise ValueError(
      f"{told} returned a {type(found).__name__}, expected a mapping of names"
      f" ({', '.join(required)}) to {len(rows)} numbers each"
    )
  lacking = [name for name in required if name not in found]
  if lacking:
    raise ValueError(
      f"{told} returned {', '.join(found) or 'no score'}, without"
      f" {', '.join(lacking)}"
    )
  taken = [name for name in LOGGED if name in found]
  if taken:
    raise ValueError(
      f"{told} returned a score named {', '.join(taken)}, expected another"
      f" name: reward/{taken[0]} is what a run logs of the reward itself"
    )
  return {
    name: _numbers(f"{told}: {name}", values, rows)
    for name, values in found.items()
  }


def _numbers(
  told: str, values: Sequence[float] | np.ndarray, rows: Sequence[Row]
) -> np.ndarray:
  """Returns f32[n], or says which row has no finite number."""
  try:
    numbers = list(values)
  except TypeError as error:
    raise ValueError(
      f"{told} is {values!r}, expected a sequence of {len(rows)} numbers, one"
      " of each response"
    ) from error
  if len(numbers) != len(rows):
    raise ValueError(
      f"{told} has {len(numbers)} numbers, expected {len(rows)}, one of each"
      " response"
    )
  for value, row in zip(numbers, rows, strict=True):
    try:
      number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
      number = math.nan
    if not math.isfinite(number):
      raise ValueError(
        f"{told} of row {row.id!r} is {value!r}, expected a finite number"
      )
  return np.array([float(value) for value in numbers], np.float32)
