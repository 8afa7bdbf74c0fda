"""A second opinion on answers: math-verify, in a process that can be killed.

math-verify (Hugging Face, Apache-2.0) reads LaTeX through ANTLR and sympy: more
forms than our grader, some of them wrong, and some that take hours or gigabytes
(nested powers). Its own time limit is a signal, which works in a main thread
only. So it runs in a worker with limits of time and memory; a verdict that does
not come is none. It never decides a reward: what it says otherwise is told.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO, NamedTuple

_TIMEOUT = 2.0  # seconds an answer may take
_START = 30.0  # seconds the worker may take to import sympy
_MEMORY_MB = 512
_MAX_LENGTH = 2000
_WORKER = (sys.executable, "-m", "jaxvlm.rewards.opinion_worker")


class _Worker(NamedTuple):
  process: subprocess.Popen[bytes]
  questions: IO[bytes]
  verdicts: IO[bytes]


class SecondOpinion:
  """Asks math-verify; a context manager that ends its worker.

  Args:
    timeout: seconds for one answer.
    memory_mb: address space of the worker.
    command: what is run as the worker.

  Raises:
    ModuleNotFoundError: math-verify is not installed.
    RuntimeError: the worker does not start.
  """

  def __init__(
    self,
    *,
    timeout: float = _TIMEOUT,
    memory_mb: int = _MEMORY_MB,
    command: Sequence[str] = _WORKER,
  ):
    self._timeout = timeout
    self._command = [*command, str(memory_mb)]
    self._worker: _Worker | None = None
    self._unread = b""
    self._begin()

  def __enter__(self) -> "SecondOpinion":
    return self

  def __exit__(self, *unused) -> None:
    self.close()

  def ask(self, prediction: str, answer: str) -> bool | None:
    """Returns whether math-verify takes `prediction` for `answer`.

    None: it took too long, wanted too much memory, or failed otherwise.

    Args:
      prediction: the predicted answer, without its box.
      answer: the right answer.
    """
    if max(len(prediction), len(answer)) > _MAX_LENGTH:
      return None
    worker = self._worker or self._begin()
    asked = json.dumps([prediction, answer]) + "\n"
    try:
      worker.questions.write(asked.encode())
      worker.questions.flush()
    except OSError:  # it has died
      self.close()
      return None
    found = self._line(worker, self._timeout)
    if found is None:
      self.close()  # begun again when it is asked next
      return None
    return {b"true": True, b"false": False}.get(found)

  def close(self) -> None:
    """Ends the worker, whatever it is doing."""
    if self._worker is None:
      return
    self._worker.process.kill()
    self._worker.process.wait()
    self._worker.questions.close()
    self._worker.verdicts.close()
    self._worker, self._unread = None, b""

  def _begin(self) -> _Worker:
    process = subprocess.Popen(
      self._command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
    )
    assert process.stdin and process.stdout  # both are pipes
    worker = _Worker(process, process.stdin, process.stdout)
    self._worker = worker
    said = self._line(worker, _START)
    if said != b"ready":
      self.close()
      if said == b"absent":
        raise ModuleNotFoundError(
          "a second opinion needs the package math-verify; install"
          " jaxvlm[verify], or do without"
        )
      raise RuntimeError(
        f"the worker {' '.join(self._command)[:80]} said {said!r} within"
        f" {_START} s, expected 'ready'"
      )
    return worker

  def _line(self, worker: _Worker, seconds: float) -> bytes | None:
    """Returns the next line, None if none comes in time."""
    stream, end = worker.verdicts.fileno(), time.monotonic() + seconds
    while b"\n" not in self._unread:
      left = max(0.0, end - time.monotonic())
      if not select.select([stream], [], [], left)[0]:
        return None
      more = os.read(stream, 4096)
      if not more:  # it has died
        return None
      self._unread += more
    line, _, self._unread = self._unread.partition(b"\n")
    return line
