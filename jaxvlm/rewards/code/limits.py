"""What a program may use, and how a process is held to it."""

import dataclasses
import math
import resource

_MAX_FILE = 1 << 20
_MAX_FILES = 32
_MIB = 1 << 20


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


def apply_to_all() -> None:
  """Sets what holds for this process and every child, for good.

  A file is at most 1 MiB, so that 32 open ones, which count as nobody's
  memory, are at most 32.
  """
  _set(resource.RLIMIT_FSIZE, _MAX_FILE)
  _set(resource.RLIMIT_NOFILE, _MAX_FILES)
  _set(resource.RLIMIT_CORE, 0)
  _set(resource.RLIMIT_MEMLOCK, 0)
  _set(resource.RLIMIT_MSGQUEUE, 0)


def apply(limits: Limits, *, cpu: bool = True) -> None:
  """Sets the limits of this process, for good.

  One process, counted with the threads of its user: neither thread nor child
  can be made.

  Args:
    limits: to hold it to.
    cpu: whether its CPU time is limited.
  """
  if cpu:
    _set(resource.RLIMIT_CPU, math.ceil(limits.timeout_s))
  _set(resource.RLIMIT_AS, limits.memory_mb * _MIB)
  _set(resource.RLIMIT_NPROC, 1)


def _set(kind: int, most: int) -> None:
  try:
    resource.setrlimit(kind, (most, most))
  except ValueError:  # less than that is allowed already
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (hard, hard))
