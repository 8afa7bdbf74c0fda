"""Which worker has which jobs of a batch, and what became of them."""

import collections
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxvlm.rewards.code import verdict as verdicts
from jaxvlm.rewards.code.template import Ended, Job
from jaxvlm.rewards.code.verdict import Outcome, Verdict

# Jobs that one worker holds: it begins the next while we read the last answer.
_AHEAD = 2
# Beyond the time of a job, for a machine that is busy, before a worker that
# does not answer is ended.
_GRACE_S = 10.0


class Task(NamedTuple):
  """A job with its bytes."""

  job: Job
  program: bytes
  tests: bytes


class Batch:
  """Tasks that are waiting, held by workers, or answered.

  A worker answers in the order in which it was handed tasks.
  """

  def __init__(self, tasks: Sequence[Task], workers: int, timeout_s: float):
    """Begins a batch.

    Args:
      tasks: to be run.
      workers: how many there are; they are known by their places.
      timeout_s: seconds that a task may take.
    """
    self._tasks, self._timeout_s = tasks, timeout_s
    self._waiting = collections.deque(range(len(tasks)))
    self._held: list[collections.deque[int]] = [
      collections.deque() for _ in range(workers)
    ]
    # When the first task that a worker holds must have been answered.
    self._due = [0.0] * workers
    self._answers: dict[int, Verdict] = {}

  @property
  def done(self) -> bool:
    """Whether every task is answered."""
    return len(self._answers) == len(self._tasks)

  def next(self) -> Iterator[tuple[int, Task]]:
    """Yields (worker, task) to hand over, first one to each."""
    for ahead in range(1, _AHEAD + 1):
      for place, held in enumerate(self._held):
        if self._waiting and len(held) < ahead:
          if not held:
            self._begin(place)
          held.append(self._waiting.popleft())
          yield place, self._tasks[held[-1]]

  def _begin(self, place: int) -> None:
    self._due[place] = time.monotonic() + self._timeout_s + _GRACE_S

  def patience(self) -> float:
    """Returns the seconds until the next answer is overdue."""
    due = [at for at, held in zip(self._due, self._held, strict=True) if held]
    return max(0.0, min(due) - time.monotonic())

  def late(self) -> set[int]:
    """Returns the workers whose answer is overdue."""
    now = time.monotonic()
    return {
      p for p, held in enumerate(self._held) if held and self._due[p] < now
    }

  def answered(self, place: int, ended: Ended) -> None:
    """Takes the answer to the first task that a worker holds."""
    number = self._held[place].popleft()
    job = self._tasks[number].job
    self._answers[number] = verdicts.of(ended, job.in_process)
    self._begin(place)

  def lost(self, place: int) -> None:
    """Counts the first task of a worker that is gone; others wait again."""
    held = self._held[place]
    if held:
      self._answers[held.popleft()] = Verdict(
        Outcome.LOST, "took its worker along"
      )
    self._waiting.extendleft(reversed(held))
    held.clear()

  def verdicts(self) -> list[Verdict]:
    """Returns the verdict on each task."""
    return [self._answers[number] for number in range(len(self._tasks))]
