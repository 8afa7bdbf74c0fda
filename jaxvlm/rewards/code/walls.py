"""How a child of the template is walled in, started and ended."""

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxvlm.rewards.code import kernel, rlimits
from jaxvlm.rewards.code.rlimits import Most


class Walls(NamedTuple):
  """How children are kept apart on this machine.

  Attributes:
    fork: starts a program's process; its end ends all that it has started.
    enter: puts the calling process into the folder for programs.
    clean: makes that folder empty again.
    user: id that children take, None to keep their own.
    filter: of system calls, None where the machine has none.
  """

  fork: Callable[[], int]
  enter: Callable[[], None]
  clean: Callable[[], None]
  user: int | None
  filter: kernel.Filter | None


def start(
  walls: Walls,
  most: Most,
  body: Callable[..., None],
  files: Sequence[int],
  *,
  lives_on: bool = False,
) -> int:
  """Forks a process that is walled in, then runs body(*files) and ends.

  Args:
    walls: around it.
    most: what it may use.
    body: what it does.
    files: the only ones that it keeps, besides the three standard ones.
    lives_on: it serves many jobs; CPU time is not limited.
  """
  pid = walls.fork()
  if pid:
    return pid
  try:
    os.setsid()  # kill(0, …) would reach the template
    _close_all_but(files)
    walls.enter()
    if walls.user is None:
      kernel.drop_capabilities()
    else:  # leaving user 0 gives up every capability
      os.setresgid(walls.user, walls.user, walls.user)
      os.setresuid(walls.user, walls.user, walls.user)
    kernel.die_with_parent(signal.SIGKILL)  # a change of user forgets it
    rlimits.apply(most, cpu=not lives_on)
    if walls.filter:
      walls.filter.install()
    body(*files)
  finally:
    os._exit(0)


def end(pid: int) -> int:
  """Ends a child; returns the signal it had died of, 0 where it was ours."""
  with contextlib.suppress(ProcessLookupError):
    os.kill(pid, signal.SIGKILL)
  _, status = os.waitpid(pid, 0)
  died = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
  return 0 if died == signal.SIGKILL else died


def _close_all_but(kept: Sequence[int]) -> None:
  low = 3
  for fd in sorted(kept):
    os.closerange(low, fd)
    low = fd + 1
  os.closerange(low, os.sysconf("SC_OPEN_MAX"))
