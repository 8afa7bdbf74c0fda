"""Problems by name, as commands ask for them."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from jaxvlm.data import diagrams
from jaxvlm.data.sources.code import Style
from jaxvlm.rewards.code import Level, Sandbox
from jaxvlm.tasks import (
  Task,
  coco,
  code,
  geometry3k,
  mathvista,
  programs,
  scenes,
  world,
)


class Wanted(NamedTuple):
  """What is asked for.

  Attributes:
    name: of the task, one of `NAMES`.
    data: its file or folder; "" for a generated world.
    split: "" for the task's own.
    style: how code problems are put.
    level: how programs are walled in.
  """

  name: str
  data: str = ""
  split: str = ""
  style: Style = Style.CHAT
  level: Level = Level.NAMESPACES


class Known(NamedTuple):
  """What is known of a task before it is opened.

  Attributes:
    splits: what measures a model: name in files -> split, the headline first.
    tokens: of the longest answer that is expected.
    make: (what is wanted, a sandbox) -> the task.
    data: what `data` must be; "" where the problems are generated.
    sandboxed: whether it needs a sandbox of ours.
  """

  splits: Mapping[str, str]
  tokens: int
  make: Callable[[Wanted, Sandbox | None], Task]
  data: str = ""
  sandboxed: bool = False

  @property
  def split(self) -> str:
    """The split of the headline."""
    return next(iter(self.splits.values()))


_FOLDER = "folder with <split>.jsonl and images/"
_WORLD = {
  "in_domain": diagrams.VALIDATION.name,
  "out_of_domain": diagrams.VALIDATION_OOD.name,
}
_KNOWN: Mapping[str, Known] = {
  "world": Known(_WORLD, 44, lambda w, s: world.task()),
  "scenes": Known({"validation": "validation"}, 44, lambda w, s: scenes.task()),
  "programs": Known(
    {"validation": "validation"}, 96, lambda w, s: programs.task(level=w.level)
  ),
  "geometry3k": Known(
    {"val": "val"}, 512, lambda w, s: geometry3k.task(w.data), _FOLDER
  ),
  "mathvista": Known(
    {"testmini": "testmini"},
    512,
    lambda w, s: mathvista.task(w.data),
    "folder with testmini's rows and images/",
  ),
  "coco": Known(
    {"val": "val"},
    64,
    lambda w, s: coco.task(w.data),
    "folder with the captions and pictures",
  ),
  "humaneval": Known(
    {"test": "test"},
    512,
    lambda w, s: code.humaneval(w.data, s, w.style),
    "file HumanEval.jsonl(.gz), or HumanEval+'s",
    sandboxed=True,
  ),
  "mbpp": Known(
    {"test": "test"},
    512,
    lambda w, s: code.mbpp(w.data, s, w.style),
    "file mbpp.jsonl(.gz)",
    sandboxed=True,
  ),
  "kodcode": Known(
    {"train": "train"},
    1024,
    lambda w, s: code.kodcode(w.data, s),
    "JSONL of question, solution, test",
    sandboxed=True,
  ),
}
NAMES = tuple(_KNOWN)


def known(wanted: Wanted) -> Known:
  """Returns what is known of a task.

  Raises:
    ValueError: its data are not given, or given where none are read.
    FileNotFoundError: they are not there.
  """
  found = _KNOWN[wanted.name]
  if bool(found.data) != bool(wanted.data):
    said = f"data is {wanted.data!r}, and task {wanted.name} "
    needs = f"needs its {found.data}" if found.data else "is generated"
    raise ValueError(said + needs)
  if wanted.data and not pathlib.Path(wanted.data).exists():
    raise FileNotFoundError(
      f"{wanted.data} does not exist: task {wanted.name} expects its"
      f" {found.data}"
    )
  return found


@contextlib.contextmanager
def opened(wanted: Wanted) -> Iterator[Task]:
  """Yields a task, with a sandbox that ends with it where it needs one.

  Raises:
    ValueError, FileNotFoundError: as `known`.
    Unavailable: the kernel allows less than the level.
  """
  found = known(wanted)
  if not found.sandboxed:
    yield found.make(wanted, None)
    return
  with Sandbox(level=wanted.level) as sandbox:
    yield found.make(wanted, sandbox)
