"""Problems by name, as commands ask for them."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from jaxvlm.data.sources.code import Style
from jaxvlm.rewards.code import Level, Sandbox
from jaxvlm.tasks import Task, code, geometry3k, programs, world


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
    split: that measures a model.
    tokens: of the longest answer that is expected.
    data: what `data` must be; "" where nothing is read.
    make: (what is wanted, a sandbox) -> the task.
    sandboxed: whether it needs a sandbox of ours.
  """

  split: str
  tokens: int
  data: str
  make: Callable[[Wanted, Sandbox | None], Task]
  sandboxed: bool = False


_KNOWN: Mapping[str, Known] = {
  "world": Known("validation", 44, "", lambda w, s: world.task()),
  "programs": Known(
    "validation", 96, "", lambda w, s: programs.task(level=w.level)
  ),
  "geometry3k": Known(
    "val",
    512,
    "folder with <split>.jsonl and images/",
    lambda w, s: geometry3k.task(w.data),
  ),
  "humaneval": Known(
    "test",
    512,
    "file HumanEval.jsonl(.gz), or HumanEval+'s",
    lambda w, s: code.humaneval(w.data, s, w.style),
    sandboxed=True,
  ),
  "mbpp": Known(
    "test",
    512,
    "file mbpp.jsonl(.gz)",
    lambda w, s: code.mbpp(w.data, s, w.style),
    sandboxed=True,
  ),
  "kodcode": Known(
    "train",
    1024,
    "JSONL of question, solution, test",
    lambda w, s: code.kodcode(w.data, s),
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
