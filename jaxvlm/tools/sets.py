"""The problems that a command measures: of a task, of the world, of a user."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from jaxvlm.data import own
from jaxvlm.data.own import drops
from jaxvlm.data.rows import Row
from jaxvlm.tasks import Task, graders, plugin
from jaxvlm.tools import problems
from jaxvlm.tools.problems import Wanted

_GENERATED = 210  # problems of a set that has no end


class Asked(NamedTuple):
  """Problems and what scores answers to them.

  Attributes:
    task: their task.
    sets: name in files -> (problems, how many were asked for).
  """

  task: Task
  sets: Mapping[str, tuple[Sequence[Row], int]]


@contextlib.contextmanager
def of_task(wanted: Wanted, count: int | None) -> Iterator[Asked]:
  """Yields problems of a task, with the sandbox that it may need.

  Args:
    wanted: the task.
    count: problems of a set; -1 all, None what suits the set.

  Raises:
    ValueError, FileNotFoundError: as `problems.known`; all problems of a set
      that has no end.
    Unavailable: the kernel allows less than the level.
  """
  known = problems.known(wanted)
  if count == -1 and not known.data:
    name = wanted.name
    kind = "generated world" if name == "world" else f"task {name}"
    raise ValueError(
      f"problems is -1 (all), and the {kind} has no end; expected a"
      " number, or a --data_dir"
    )
  splits = {wanted.split: wanted.split} if wanted.split else known.splits
  with problems.opened(wanted) as task:
    found = {}
    for name, split in splits.items():
      rows = task.rows(split)
      every = len(rows) if known.data else _GENERATED
      asked = every if count in (None, -1) else count
      found[name] = rows[:asked], asked
    yield Asked(task, found)


@contextlib.contextmanager
def of_user(
  path: str,
  reward: str,
  split: str,
  layout: str,
  count: int | None,
  max_missing: float,
  seconds: float = plugin.SECONDS,
) -> Iterator[Asked]:
  """Yields a user's rows with the reward that scores answers to them.

  Args:
    path: as `own.read`.
    reward: as `graders.find`.
    split: as `own.read`.
    layout: as `own.read`.
    count: how many of them; -1 or None for all.
    max_missing: share of the records that may be unusable.
    seconds: as `graders.find`.

  Raises:
    FileNotFoundError, ValueError: what is wrong with rows or reward.
  """
  grader = graders.find(reward, seconds)
  form = own.problems if grader.answers else own.prompts
  found = own.read(path, form, split=split, layout=layout)
  drops.check(found.dropped, found.found, most=max_missing)
  asked = len(found.rows) if count in (None, -1) else count
  task = graders.task("rows", grader, found.rows)
  yield Asked(task, {"rows": (found.rows[:asked], asked)})
