"""Preemption: SIGTERM becomes a flag that the loop reads between steps.

A cloud that takes a machine back sends SIGTERM half a minute ahead. The
handler only takes note, so it may come at any moment, during a save too, and
any number of times.
"""

import signal
import threading
from typing import Any

from jaxvlm import distributed

# EX_TEMPFAIL of sysexits.h, "try again later": all is saved, and the same
# command goes on from there.
EXIT_CODE = 75


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
