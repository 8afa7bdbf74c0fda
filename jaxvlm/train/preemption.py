"""Told to end: SIGTERM is a flag that the loop reads between steps.

A cloud that takes a machine back sends SIGTERM half a minute ahead. The
handler only takes note, so it may come at any moment, during a save too, and
any number of times.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from jaxvlm import distributed

# EX_TEMPFAIL of sysexits.h, "try again later": all is saved, and the same
# command goes on from there.
EXIT_CODE = 75
# What a shell says of a program that Ctrl-C ended.
INTERRUPTED = 128 + signal.SIGINT
# Ends every message of this kind.
RESUMES = "the same command resumes from there"


class Preemption:
  """Takes note of SIGTERM while it is open; use as a context manager.

  Only the main thread of a program can receive signals: opened in another one
  it notices nothing.
  """

  def __init__(self):
    self._noticed = False
    self._previous: Any = None
    self._listens = False

  def __enter__(self) -> "Preemption":
    if threading.current_thread() is threading.main_thread():
      self._previous = signal.signal(signal.SIGTERM, self._notice)
      self._listens = True
    return self

  def __exit__(self, *exception: Any) -> None:
    # A program that was asked to end is not hurried by a second notice.
    if self._listens and not self._noticed:
      signal.signal(signal.SIGTERM, self._previous)

  def noticed(self) -> bool:
    """Returns whether any process was told to end; all call it together.

    The step after which all of them see it is the same, so it is the step
    that they save.
    """
    return distributed.any_process(self._noticed)

  def _notice(self, number: int, frame: Any) -> None:
    self._noticed = True


@contextlib.contextmanager
def announced(progress: Callable[[], str]) -> Iterator[None]:
  """Ends a program that is told to in one line, without a traceback.

  Around the whole of a program; for Ctrl-C with code `INTERRUPTED`, for
  SIGTERM with `EXIT_CODE`. While a loop runs, SIGTERM is the loop's, which
  takes its step to the end and saves it.

  Args:
    progress: what is saved; asked when no loop has said it already, in the
      notes of its KeyboardInterrupt.
  """

  def told(number: int, frame: Any) -> None:
    print(f"told to end; {progress()}, {RESUMES}", file=sys.stderr, flush=True)
    raise SystemExit(EXIT_CODE)

  listens = threading.current_thread() is threading.main_thread()
  previous = signal.signal(signal.SIGTERM, told) if listens else None
  try:
    yield
  except KeyboardInterrupt as error:
    notes = getattr(error, "__notes__", ())
    line = "; ".join(notes) or f"interrupted; {progress()}, {RESUMES}"
    print(f"\n{line}", file=sys.stderr, flush=True)
    raise SystemExit(INTERRUPTED) from None
  finally:
    if listens:
      signal.signal(signal.SIGTERM, previous)
