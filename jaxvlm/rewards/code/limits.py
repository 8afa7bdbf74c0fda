"""What a program may use."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Limits:
  """Bounds on one program with its tests.

  Attributes:
    timeout_s: seconds of wall time from start to verdict.
    memory_mb: MiB of address space, the interpreter's own 30 included.
  """

  timeout_s: float = 5.0
  memory_mb: int = 256

  def __post_init__(self):
    if not (math.isfinite(self.timeout_s) and 0 < self.timeout_s <= 3600):
      raise ValueError(
        f"timeout_s is {self.timeout_s}, expected more than 0 and at most 3600"
      )
    if not 64 <= self.memory_mb <= 1 << 20:
      raise ValueError(
        f"memory_mb is {self.memory_mb}, expected 64 (the interpreter needs"
        " half of it) to 1048576"
      )
