"""Batches of programs, run where they can harm nothing and forge nothing."""

import contextlib
import enum
import os
import selectors
import sys
import threading
from collections.abc import Iterable, Sequence

from jaxvlm.rewards.code.batch import Batch, Task
from jaxvlm.rewards.code.limits import Limits
from jaxvlm.rewards.code.rlimits import Most
from jaxvlm.rewards.code.suite import Tests
from jaxvlm.rewards.code.template import Job
from jaxvlm.rewards.code.verdict import Outcome, Verdict
from jaxvlm.rewards.code.worker import Unavailable, Worker

MAX_PROGRAM = 1 << 20

_HINT = (
  ". Expected user, mount, process and network namespaces: run on a kernel that"
  " allows them, or choose --sandbox=rlimits by hand, which is weaker"
  " (jaxvlm sandbox --check says by how much)"
)


class Level(enum.Enum):
  """How programs are walled in."""

  NAMESPACES = "namespaces"
  RLIMITS = "rlimits"


class Sandbox:
  """A pool of warm processes that run programs with their tests.

  Each program runs in a process of its own, tests in a second one; the verdict
  is the second one's. Identical jobs of a batch run once. A batch may be run
  from any thread; batches of several threads follow each other. Linux only.
  """

  def __init__(
    self,
    *,
    level: Level = Level.NAMESPACES,
    workers: int | None = None,
    timeout_s: float = Limits.timeout_s,
    memory_mb: int = Limits.memory_mb,
  ):
    """Starts the workers.

    Args:
      level: how programs are walled in. RLIMITS, by hand, where the kernel
        allows no namespaces: files of others can be read then.
      workers: programs at a time; None for one a core that we may use.
      timeout_s: seconds of wall time of a program with its tests.
      memory_mb: MiB of address space of each of their two processes.

    Raises:
      Unavailable: the kernel allows less than `level`.
    """
    if not sys.platform.startswith("linux"):
      raise Unavailable(
        f"programs run on Linux only, and this is {sys.platform}"
      )
    if workers is None:
      workers = len(os.sched_getaffinity(0))
    if workers < 1:
      raise ValueError(f"workers is {workers}, expected at least 1")
    self._limits = Limits(timeout_s, memory_mb)
    self._level = level
    self._lock = threading.Lock()
    self._workers: list[Worker] = []
    try:
      for _ in range(workers):
        self._workers.append(self._start())
    except BaseException:
      self.close()
      raise

  def _start(self) -> Worker:
    isolated = self._level is Level.NAMESPACES
    try:
      return Worker(isolated)
    except Unavailable as error:
      hint = _HINT if isolated else ""
      raise Unavailable(
        f"this machine allows no sandbox of level {self._level.value}:"
        f" {error}{hint}"
      ) from error

  def __enter__(self) -> "Sandbox":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def close(self) -> None:
    """Ends the workers."""
    while self._workers:
      self._workers.pop().close()

  @property
  def level(self) -> Level:
    """How programs are walled in."""
    return self._level

  @property
  def limits(self) -> Limits:
    """What a program may use."""
    return self._limits

  @property
  def walls(self) -> dict[str, bool]:
    """What there is beyond the level: a filter of calls, a user of its own."""
    return dict(self._workers[0].walls)

  def run(self, jobs: Iterable[tuple[str, Tests | str]]) -> list[Verdict]:
    """Returns the verdict on each (program, tests), in their order.

    Args:
      jobs: source of a program, and its tests (a text is `Tests(text)`).

    Raises:
      ValueError: tests that hold no test; names what is expected.
    """
    with self._lock:
      if not self._workers:
        raise ValueError("the sandbox is closed, expected an open one")
      return self._run([(p, _tests(t)) for p, t in jobs])

  def _run(self, jobs: Sequence[tuple[str, Tests]]) -> list[Verdict]:
    found: dict[tuple[str, Tests], Verdict] = {}
    tasks: dict[tuple[str, Tests], Task] = {}
    most = Most(self._limits.timeout_s, self._limits.memory_mb)
    for program, tests in jobs:
      key = (program, tests)
      if key in found or key in tasks:
        continue
      refused = _refuse(program)
      if refused:
        found[key] = refused
      else:
        job = Job(most, tests.in_process)
        tasks[key] = Task(job, program.encode(), tests.pack())
    answers = self._all(list(tasks.values()))
    found.update(zip(tasks, answers, strict=True))
    return [found[job] for job in jobs]

  def _all(self, tasks: Sequence[Task]) -> list[Verdict]:
    """Runs tasks on the workers; one that takes a worker along is lost."""
    batch = Batch(tasks, len(self._workers), self._limits.timeout_s)
    with selectors.DefaultSelector() as selector:
      for place, worker in enumerate(self._workers):
        selector.register(worker, selectors.EVENT_READ, place)
      while not batch.done:
        for place, task in batch.next():
          # One that is gone shows it when it is read from.
          with contextlib.suppress(OSError):
            self._workers[place].send(*task)
        events = selector.select(batch.patience())
        ready = {key.data for key, _ in events}
        for place in ready | batch.late():
          ended = self._workers[place].receive() if place in ready else None
          if ended is not None:
            batch.answered(place, ended)
            continue
          batch.lost(place)
          selector.unregister(self._workers[place])
          self._workers[place].close()
          self._workers[place] = self._start()
          selector.register(self._workers[place], selectors.EVENT_READ, place)
    return batch.verdicts()


def run_tests(
  program: str,
  tests: Tests | str,
  *,
  timeout_s: float = Limits.timeout_s,
  memory_mb: int = Limits.memory_mb,
  level: Level = Level.NAMESPACES,
) -> Verdict:
  """Returns the verdict on one program; `Sandbox` is for many.

  Args:
    program: source.
    tests: its tests; a text is `Tests(text)`.
    timeout_s: seconds of wall time.
    memory_mb: MiB of address space.
    level: how the program is walled in.

  Raises:
    ValueError: tests without a test, limits out of range.
    Unavailable: the kernel allows less than `level`.
  """
  with Sandbox(
    level=level, workers=1, timeout_s=timeout_s, memory_mb=memory_mb
  ) as sandbox:
    return sandbox.run([(program, tests)])[0]


def _tests(tests: Tests | str) -> Tests:
  return Tests(tests) if isinstance(tests, str) else tests


def _refuse(program: str) -> Verdict | None:
  """Returns a verdict on what is not worth a process, else None."""
  detail = ""
  if len(program) > MAX_PROGRAM:
    detail = f"{len(program)} characters, at most {MAX_PROGRAM} are read"
  elif "\0" in program:
    detail = "a NUL byte"
  elif any("\ud800" <= c <= "\udfff" for c in program):
    detail = "half a character (a lone surrogate)"
  return Verdict(Outcome.UNREADABLE, detail) if detail else None
