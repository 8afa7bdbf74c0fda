"""The process that programs are forked from: warm, small, told no secret.

It never reads programs or tests: both arrive as open files, and only the child
that needs one reads it. So nothing of an earlier job is in the memory that the
next program is given.
"""

import gc
import importlib
import json
import os
import select
import socket
import struct
import sys
import time
from typing import NamedTuple

from jaxvlm.rewards.code import (
  candidate,
  checker,
  codec,
  filter,
  frames,
  kernel,
  namespaces,
  rlimits,
  walls,
)
from jaxvlm.rewards.code.judge import Judge
from jaxvlm.rewards.code.rlimits import Most
from jaxvlm.rewards.code.walls import Walls

# Imported once, here: programs find them loaded. Nothing that brings threading
# (queue, logging): after a fork it costs as much as the program.
_WARM = (
  "bisect", "cmath", "collections", "copy", "datetime",
  "decimal", "fractions", "functools", "hashlib", "heapq", "itertools",
  "math", "operator", "random", "re", "statistics", "string", "typing",
)  # fmt: skip
# What programs may import where their user cannot read the interpreter's files.
_MORE = (
  "array", "base64", "calendar", "contextlib", "dataclasses", "enum", "inspect",
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

  limits: Most
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
    return cls(Most(timeout_s, memory_mb), in_process)


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
    seconds, timed_out, signal = struct.unpack("<d?B", data[:size])
    return cls(seconds, timed_out, signal, found)


class _Left(Exception):
  """Nobody waits for the verdict any more."""


def main() -> None:
  """Serves jobs from the socket that the arguments name until it closes."""
  control = socket.socket(fileno=int(sys.argv[1]))
  use_namespaces, folder = sys.argv[2] == "namespaces", sys.argv[3]
  os.setsid()
  _warm()
  try:
    around = _build(control, use_namespaces, folder)
    kernel.never_gain()
    rlimits.apply_to_all()
  except OSError as error:
    control.send(json.dumps({"error": error.strerror}).encode())
    return
  gc.collect()
  gc.freeze()
  gc.disable()
  ready = {
    "a filter of calls": around.filter is not None,
    "a user of its own": around.user is not None,
  }
  control.send(json.dumps(ready).encode())
  bench = _Bench(around, control)
  while True:
    data, files, _, _ = socket.recv_fds(control, 64, 2)
    if not data:
      return
    try:
      ended = bench.run(Job.unpack(data), *files)
    except _Left:
      return
    finally:
      for fd in files:
        os.close(fd)
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

    def enter() -> None:
      os.chdir(namespaces.SCRATCH)
      if calls is None:  # nothing else keeps shared memory from outliving it
        kernel.unshare(kernel.NEWIPC)

    return Walls(fork, enter, namespaces.clean, user, calls)
  kernel.set_dumpable(False)  # a program of the same user may not look in
  kernel.adopt_orphans()
  user = _nobody(folder)
  if user is not None:
    for name in _MORE:
      importlib.import_module(name)
  return Walls(
    os.fork, lambda: os.chdir(folder), lambda: _empty(folder), user, calls
  )


def _empty(folder: str) -> None:
  import shutil  # with three compressors, which no program's process needs

  for entry in os.scandir(folder):
    if entry.is_dir(follow_symlinks=False):
      shutil.rmtree(entry.path, ignore_errors=True)
    else:
      os.unlink(entry.path)


def _nobody(folder: str) -> int | None:
  """Returns the user that owns nothing but the folder, None without one."""
  if os.geteuid() != 0:
    return None
  try:
    os.chown(folder, _NOBODY, _NOBODY)
  except OSError:  # the root of a container that maps no other user
    return None
  return _NOBODY


class _Bench:
  """Runs job after job: a program's process each, one judge for many."""

  def __init__(self, around: Walls, control: socket.socket):
    self._walls, self._control = around, control
    self._judge: Judge | None = None

  def run(self, job: Job, program: int, tests: int) -> Ended:
    """Runs a job.

    Args:
      job: what it may use.
      program: open file of its source, which only its own process reads.
      tests: open file of its tests, which only their process reads.

    Raises:
      _Left: nobody waits for the verdict.
    """
    start = time.monotonic()
    end = start + job.limits.timeout_s
    ask = self._together if job.in_process else self._apart
    pid, late, found = ask(job, program, tests, end)
    died = walls.end(pid)
    self._walls.clean()
    if late is None:
      raise _Left
    return Ended(time.monotonic() - start, late, died, found)

  def _apart(
    self, job: Job, program: int, tests: int, end: float
  ) -> tuple[int, bool | None, checker.Found | None]:
    near, far = (side.detach() for side in socket.socketpair())
    pid = walls.start(self._walls, job.limits, _serve, (program, near))
    os.close(near)
    judge = self._judge or Judge(self._walls, job.limits)
    judge.ask(tests, far)
    os.close(far)
    late = self._wait(judge.fileno(), end)
    found = judge.report() if late is False else None
    used_up = found is None or judge.spent
    if used_up:
      judge.close()
    self._judge = None if used_up else judge
    return pid, late, found

  def _together(
    self, job: Job, program: int, tests: int, end: float
  ) -> tuple[int, bool | None, checker.Found | None]:
    report, reported = os.pipe()
    given = (program, tests, reported)
    pid = walls.start(self._walls, job.limits, _judge_inside, given)
    os.close(reported)
    late = self._wait(report, end)
    data = os.read(report, 256) if late is False else b""
    os.close(report)
    try:
      return pid, late, checker.Found.unpack(data) if data else None
    except ValueError:  # forged, by a program that shares the tests' process
      return pid, late, None

  def _wait(self, fd: int, end: float) -> bool | None:
    """Returns whether time ran out; None where nobody waits any more."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(self._control, 0)  # hanging up alone is told
    ready = dict(poll.poll(max(0, end - time.monotonic()) * 1e3))
    if self._control.fileno() in ready:
      return None
    return fd not in ready


def _serve(program: int, channel: int) -> None:
  source = frames.whole(program)
  os.close(program)
  gc.enable()
  candidate.serve(source, channel)


def _judge_inside(program: int, tests: int, report: int) -> None:
  found = checker.judge_inside(frames.whole(program), frames.whole(tests))
  os.write(report, found.pack())


if __name__ == "__main__":
  main()
