"""The process that programs are forked from: warm, small, told no secret.

It never reads programs or tests: both arrive as open files, and only the child
that needs one reads it. So nothing of an earlier job is in the memory that the
next program is given.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxvlm.rewards.code import (
  candidate,
  checker,
  codec,
  filter,
  frames,
  kernel,
  limits,
  namespaces,
)

# Imported once, here: programs find them loaded. Nothing that brings threading
# (queue, logging): after a fork it costs as much as the program.
_WARM = (
  "bisect", "cmath", "collections", "copy", "dataclasses", "datetime",
  "decimal", "fractions", "functools", "hashlib", "heapq", "itertools",
  "math", "operator", "random", "re", "statistics", "string", "typing",
)  # fmt: skip
# What programs may import where their user cannot read the interpreter's files.
_MORE = (
  "array", "base64", "calendar", "contextlib", "enum", "hashlib", "inspect",
  "io", "json", "numbers", "os", "pprint", "queue", "secrets", "struct",
  "textwrap", "threading", "time", "timeit", "types", "zlib",
)  # fmt: skip
_HEADER = struct.Struct("<dI?")
_UNPRIVILEGED = 1  # the user that programs run as, where one is mapped
_NOBODY = 65534


class Job(NamedTuple):
  """What the template is told of a job.

  Attributes:
    limits: of each of its two processes.
    in_process: run program and tests in one process, which is weaker.
  """

  limits: limits.Limits
  in_process: bool

  def pack(self) -> bytes:
    """Returns it as bytes."""
    return _HEADER.pack(
      self.limits.timeout_s, self.limits.memory_mb, self.in_process
    )

  @classmethod
  def unpack(cls, data: bytes) -> "Job":
    """Reads what `pack` wrote."""
    timeout_s, memory_mb, in_process = _HEADER.unpack(data)
    return cls(limits.Limits(timeout_s, memory_mb), in_process)


class Ended(NamedTuple):
  """What became of a job.

  Attributes:
    seconds: from start to verdict.
    timed_out: whether it was ended for time.
    signal: that ended the program's process by itself, 0 for none.
    found: what the tests reported; None where they did not.
  """

  seconds: float
  timed_out: bool
  signal: int
  found: checker.Found | None

  def pack(self) -> bytes:
    """Returns it as bytes."""
    head = struct.pack("<d?B", self.seconds, self.timed_out, self.signal)
    return head + (self.found.pack() if self.found else b"")

  @classmethod
  def unpack(cls, data: bytes) -> "Ended":
    """Reads what `pack` wrote."""
    size = struct.calcsize("<d?B")
    found = checker.Found.unpack(data[size:]) if data[size:] else None
    return cls(*struct.unpack("<d?B", data[:size]), found)


class Walls(NamedTuple):
  """How children are kept apart on this machine.

  Attributes:
    fork: starts the program's process.
    scratch: gives the calling process its folder.
    user: id that children take, None to keep their own.
    filter: of system calls, None where the machine has none.
  """

  fork: Callable[[], int]
  scratch: Callable[[], None]
  user: int | None
  filter: kernel.Filter | None


class _Left(Exception):
  """Nobody waits for the verdict any more."""


def main() -> None:
  """Serves jobs from the socket that the arguments name until it closes."""
  control = socket.socket(fileno=int(sys.argv[1]))
  use_namespaces, folder = sys.argv[2] == "namespaces", sys.argv[3]
  os.setsid()
  _warm()
  try:
    walls = _build(control, use_namespaces, folder)
    kernel.never_gain()
    limits.apply_to_all()
  except OSError as error:
    control.send(json.dumps({"error": error.strerror}).encode())
    return
  gc.collect()
  gc.freeze()
  gc.disable()
  ready = {
    "a filter of calls": walls.filter is not None,
    "a user of its own": walls.user is not None,
  }
  control.send(json.dumps(ready).encode())
  while True:
    data, files, _, _ = socket.recv_fds(control, 64, 2)
    if not data:
      return
    try:
      ended = _run(Job.unpack(data), *files, control, walls)
    except _Left:
      return
    control.send(ended.pack())


def _warm() -> None:
  """Does once what every child would do for the first time.

  The first compile alone makes some hundred types, 2 ms that each child would
  spend again.
  """
  for name in _WARM:
    importlib.import_module(name)
  compile("é = 1", "<letters>", "exec")  # imports unicodedata
  module = candidate.load("def f(x: int):\n  return [v for v in (x, 1)]\n")
  tests = "assert f(1) == [1, 1]\ndef test():\n  assert f(2)\n"
  if checker.judge(tests, {"f": module.f}, "").code != "P":
    raise AssertionError("the template's own program failed")
  codec.decode(codec.encode(("f", [1, 0.5, None, True], {"key": "text"})))
  Ended.unpack(Ended(0.0, False, 0, checker.Found("P")).pack())
  sys.modules.pop(candidate.NAME)


def _build(control: socket.socket, use_namespaces: bool, folder: str) -> Walls:
  program = filter.build()
  calls = kernel.Filter(program) if program else None
  if use_namespaces:
    fork, separate = namespaces.enter(control, folder)
    user = _UNPRIVILEGED if separate else None
    return Walls(fork, namespaces.scratch, user, calls)
  kernel.set_dumpable(False)  # a program of the same user may not look in
  kernel.adopt_orphans()
  user = _nobody(folder)
  if user is not None:
    for name in _MORE:
      importlib.import_module(name)

  def fork() -> int:
    pid = os.fork()
    if not pid:
      kernel.die_with_parent(signal.SIGKILL)
    return pid

  return Walls(fork, lambda: os.chdir(folder), user, calls)


def _nobody(folder: str) -> int | None:
  """Returns the user that owns nothing but the folder, None without one."""
  if os.geteuid() != 0:
    return None
  try:
    os.chown(folder, _NOBODY, _NOBODY)
  except OSError:  # the root of a container that maps no other user
    return None
  return _NOBODY


def _run(
  job: Job, program: int, tests: int, control: socket.socket, walls: Walls
) -> Ended:
  start = time.monotonic()
  report, reported = os.pipe()
  near, far = (end.detach() for end in socket.socketpair())
  pids = []
  try:
    if job.in_process:
      pids = [_start(job, walls, _judge_inside, program, tests, reported)]
    else:
      pids = [_start(job, walls, _serve, program, near)]
      near_us = walls._replace(fork=os.fork, scratch=lambda: None)
      pids += [_start(job, near_us, _judge, tests, far, reported)]
    for fd in (program, tests, near, far, reported):
      os.close(fd)
    timed_out, found = _wait(report, control, start + job.limits.timeout_s)
    os.close(report)
  finally:
    signals = [_end(pid) for pid in pids]
  return Ended(time.monotonic() - start, timed_out, signals[0], found)


def _start(
  job: Job, walls: Walls, body: Callable[..., None], *files: int
) -> int:
  """Forks a process that is walled in and then runs body(*files)."""
  pid = walls.fork()
  if pid:
    return pid
  try:
    os.setsid()  # kill(0, …) would reach the template
    _close_all_but(files)
    walls.scratch()
    if walls.user is None:
      kernel.drop_capabilities()
    else:  # leaving user 0 gives up every capability
      os.setresgid(walls.user, walls.user, walls.user)
      os.setresuid(walls.user, walls.user, walls.user)
    limits.apply(job.limits)
    if walls.filter:
      walls.filter.install()
    body(*files)
  finally:
    os._exit(0)


def _close_all_but(kept: Sequence[int]) -> None:
  """Closes every file but these and the three standard ones."""
  low = 3
  for fd in sorted(kept):
    os.closerange(low, fd)
    low = fd + 1
  os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _serve(program: int, channel: int) -> None:
  source = frames.whole(program)
  os.close(program)
  gc.enable()
  candidate.serve(source, channel)


def _judge(tests: int, channel: int, report: int) -> None:
  os.write(report, checker.check(frames.whole(tests), channel).pack())


def _judge_inside(program: int, tests: int, report: int) -> None:
  found = checker.judge_inside(frames.whole(program), frames.whole(tests))
  os.write(report, found.pack())


def _wait(
  report: int, control: socket.socket, end: float
) -> tuple[bool, checker.Found | None]:
  """Waits for the report, the end of its process, or time.

  Returns:
    whether time ran out, and the report if there is one.
  """
  poll = select.poll()
  poll.register(report, select.POLLIN)
  poll.register(control, 0)  # hanging up alone is told
  ready = dict(poll.poll(max(0, end - time.monotonic()) * 1e3))
  if control.fileno() in ready:
    raise _Left
  if report not in ready:
    return True, None
  data = os.read(report, 256)
  try:
    return False, checker.Found.unpack(data) if data else None
  except ValueError:  # forged by a program that shares the tests' process
    return False, None


def _end(pid: int) -> int:
  """Ends a child; returns the signal it had died of."""
  with contextlib.suppress(ProcessLookupError):
    os.kill(pid, signal.SIGKILL)
  _, status = os.waitpid(pid, 0)
  died = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
  return 0 if died == signal.SIGKILL else died


if __name__ == "__main__":
  main()
