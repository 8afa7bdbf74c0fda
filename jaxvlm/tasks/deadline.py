"""A time limit on a call of code that a user wrote, in the same process.

The call stays in the main thread, for code that needs it: an alarm of the
system (SIGALRM) interrupts it. What cannot be interrupted is a library in C
that does not come back to Python. Code that sets an alarm of its own has that
one instead.
"""

import signal
import threading
from collections.abc import Callable
from typing import Any

# Code that swallows the interruption gets another one, until it gives up.
_AGAIN_S = 1.0


class _Late(BaseException):
  """Not an Exception: `except Exception` in the code does not swallow it."""


def call(function: Callable[[], Any], seconds: float) -> Any:
  """Returns what a function returns, if it does so in time.

  Outside of the main thread, which alone gets alarms, nothing is limited.

  Args:
    function: is interrupted where it stands: in a loop, asleep, waiting for
      a child or a socket.
    seconds: the limit, of the clock on the wall.

  Raises:
    TimeoutError: the function took longer.
  """
  if threading.current_thread() is not threading.main_thread():
    return function()
  running = True

  def late(number: int, frame: Any) -> None:
    if running:
      raise _Late

  before = signal.signal(signal.SIGALRM, late)
  timer = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
  try:
    return function()
  except _Late:
    raise TimeoutError(
      f"it took longer than {seconds:g} s; make it faster, or raise"
      " reward_seconds"
    ) from None
  finally:
    running = False
    signal.setitimer(signal.ITIMER_REAL, *timer)
    signal.signal(signal.SIGALRM, before)
