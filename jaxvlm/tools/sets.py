"""The problems that a command measures: of a task, of the world, of a user."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxvlm.data import diagrams, own, scenes
from jaxvlm.data import programs as small_programs
from jaxvlm.data.own import drops
from jaxvlm.data.rows import Row
from jaxvlm.tasks import (
  Task,
  coco,
  geometry3k,
  graders,
  mathvista,
  programs,
  world,
)
from jaxvlm.tasks import scenes as scene_captions

_GENERATED = 210  # problems of a set that has no end


class Known(NamedTuple):
  """A task by its name.

  Attributes:
    make: folder of its data, "" if it is generated -> the task.
    splits: what is measured by default: name in files -> split.
    folder: whether it needs one.
  """

  make: Callable[[str], Task]
  splits: Mapping[str, str]
  folder: bool = False


_WORLD = {
  "in_domain": diagrams.VALIDATION.name,
  "out_of_domain": diagrams.VALIDATION_OOD.name,
}
TASKS: Mapping[str, Known] = {
  "world": Known(lambda folder: world.task(), _WORLD),
  "scenes": Known(
    lambda folder: scene_captions.task(),
    {"validation": scenes.VALIDATION.name},
  ),
  "programs": Known(
    lambda folder: programs.task(),
    {"validation": small_programs.VALIDATION.name},
  ),
  "geometry3k": Known(geometry3k.task, {"val": "val"}, folder=True),
  "mathvista": Known(mathvista.task, {"testmini": "testmini"}, folder=True),
  "coco": Known(coco.task, {"val": "val"}, folder=True),
}


class Asked(NamedTuple):
  """Problems and what scores answers to them.

  Attributes:
    task: their task.
    sets: name in files -> (problems, how many were asked for).
  """

  task: Task
  sets: Mapping[str, tuple[Sequence[Row], int]]


def of_task(name: str, folder: str, split: str, count: int | None) -> Asked:
  """Returns problems of a task.

  Args:
    name: of `TASKS`; "": geometry3k with a folder, the world without.
    folder: of its data, if it needs one.
    split: what is measured; "": what the task says.
    count: problems of a set; -1 all, None what suits the set.

  Raises:
    ValueError: an unknown name, a folder too much or too little, all problems
      of a set that has no end.
  """
  name = name or ("geometry3k" if folder else "world")
  if name not in TASKS:
    raise ValueError(
      f"task is {name!r}, expected one of {', '.join(TASKS)}; rows of your own"
      " are given by --data"
    )
  known = TASKS[name]
  if bool(folder) != known.folder:
    need = "the folder of its data" if known.folder else "none: it is generated"
    raise ValueError(f"data_dir is {folder!r}, and {name} expects {need}")
  task = known.make(folder)
  splits = {split: split} if split else known.splits
  if known.folder:
    every = {key: task.rows(of) for key, of in splits.items()}
    return Asked(
      task,
      {
        key: (rows[:n], n)
        for key, rows in every.items()
        for n in [len(rows) if count in (None, -1) else count]
      },
    )
  if count == -1:
    kind = "generated world" if name == "world" else f"task {name}"
    raise ValueError(
      f"problems is -1 (all), and the {kind} has no end; expected a"
      " number, or a --data_dir"
    )
  count = count or _GENERATED
  return Asked(
    task,
    {k: (list(task.rows(of)[:count]), count) for k, of in splits.items()},
  )


def of_user(
  path: str,
  reward: str,
  split: str,
  layout: str,
  count: int | None,
  max_missing: float,
) -> Asked:
  """Returns a user's rows with the reward that scores answers to them.

  Args:
    path: as `own.read`.
    reward: as `graders.find`.
    split: as `own.read`.
    layout: as `own.read`.
    count: how many of them; -1 or None for all.
    max_missing: share of the records that may be unusable.

  Raises:
    FileNotFoundError, ValueError: what is wrong with rows or reward.
  """
  grader = graders.find(reward)
  form = own.problems if grader.answers else own.prompts
  found = own.read(path, form, split=split, layout=layout)
  drops.check(found.dropped, found.found, most=max_missing)
  asked = len(found.rows) if count in (None, -1) else count
  task = graders.task("rows", grader, found.rows)
  return Asked(task, {"rows": (found.rows[:asked], asked)})
