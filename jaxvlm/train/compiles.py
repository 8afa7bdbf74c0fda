"""Counts compilations, because a recompiling loop is slow without a word."""

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"


class CompileCounter:
  """Counts XLA compilations of this process since it was made.

  Attributes:
    count: programs compiled so far.
  """

  def __init__(self):
    self.count = 0
    jax.monitoring.register_event_duration_secs_listener(self._listen)

  def _listen(self, event: str, duration: float, **_) -> None:
    del duration
    self.count += event == _EVENT
