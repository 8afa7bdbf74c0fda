"""The process that runs tests, seen from the template.

It serves many jobs, for a fork costs more than the tests of a program do. That
is safe for what it holds is trusted: tests, in a fresh namespace each. Programs
never run in it, and it never has one's memory.
"""

import gc
import os
import random
import socket

from jaxvlm.rewards.code import checker, frames, walls
from jaxvlm.rewards.code.rlimits import Most
from jaxvlm.rewards.code.walls import Walls

# Jobs of one process: what tests leave behind in modules ends with it.
_JOBS = 64


class Judge:
  """A process that is handed tests and a channel to a program, again and again.

  Its socket is readable when a report is there, or the process has ended.
  """

  def __init__(self, around: Walls, most: Most):
    """Starts the process.

    Args:
      around: its walls.
      most: what it may use, but for time.
    """
    self._socket, theirs = socket.socketpair(
      socket.AF_UNIX, socket.SOCK_SEQPACKET
    )
    self.limits, self._left = most, _JOBS
    alone = around._replace(fork=os.fork, enter=lambda: os.chdir("/"))
    self._pid = walls.start(
      alone, most, _serve, (theirs.detach(),), lives_on=True
    )

  def fileno(self) -> int:
    """Returns what is waited for."""
    return self._socket.fileno()

  def ask(self, tests: int, channel: int) -> None:
    """Hands over open files: tests, and the channel to a program."""
    self._left -= 1
    try:
      socket.send_fds(self._socket, [b"job"], [tests, channel])
    except OSError:
      pass  # its end shows when it is read from

  def report(self) -> checker.Found | None:
    """Returns what the tests found; None where the process has ended."""
    try:
      data = self._socket.recv(256)
    except OSError:
      return None
    return checker.Found.unpack(data) if data else None

  @property
  def spent(self) -> bool:
    """Whether it has served as many jobs as it should."""
    return self._left <= 0

  def close(self) -> None:
    """Ends the process."""
    self._socket.close()
    walls.end(self._pid)


def _serve(fd: int) -> None:
  control = socket.socket(fileno=fd)
  gc.enable()
  while True:
    data, files, _, _ = socket.recv_fds(control, 16, 2)
    if not data:
      return
    tests, channel = files
    try:
      random.seed(0)  # tests that draw do so alike in every job
      found = checker.check(frames.whole(tests), channel)
    finally:
      for fd in files:
        os.close(fd)
    control.send(found.pack())
