"""How a process is held to its limits.

Not with the limits' own class: dataclasses would bring modules into every
program's process that it has no use for.
"""

import math
import resource
from typing import NamedTuple

_MAX_FILE = 1 << 20
_MAX_FILES = 32
_MIB = 1 << 20


class Most(NamedTuple):
  """Seconds of wall time and MiB of address space, as in `limits.Limits`."""

  timeout_s: float
  memory_mb: int


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


def apply(most: Most, *, cpu: bool = True) -> None:
  """Sets the limits of this process, for good.

  One process, counted with the threads of its user: neither thread nor child
  can be made.

  Args:
    most: to hold it to.
    cpu: whether its CPU time is limited.
  """
  if cpu:
    _set(resource.RLIMIT_CPU, math.ceil(most.timeout_s))
  _set(resource.RLIMIT_AS, most.memory_mb * _MIB)
  _set(resource.RLIMIT_NPROC, 1)


def _set(kind: int, most: int) -> None:
  try:
    resource.setrlimit(kind, (most, most))
  except ValueError:  # less than that is allowed already
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (hard, hard))
