"""How tests compile: cheaply, for their programs are tiny and run once.

A train step of `tiny` takes 9 s of CPU to compile with these flags, 46 s
without; compiling was nine tenths of the suite. Arithmetic stays float32.
With OPTIMIZED_TESTS=1 (`make test-slow`) programs are compiled as a user's.
"""

import os
from importlib import metadata

_MINOR = tuple(map(int, metadata.version("jaxlib").split(".")[:2]))
_CHEAP = (
  "--xla_backend_optimization_level=0",
  "--xla_llvm_disable_expensive_passes=true",
  # Later ones end a process over this flag (0.12 does).
  *(("--xla_cpu_use_fusion_emitters=false",) if _MINOR < (0, 11) else ()),
)
FLAGS = () if os.environ.get("OPTIMIZED_TESTS") else _CHEAP


def environment(**more: str) -> dict[str, str]:
  """Returns the environment of a child that compiles for CPU, with `more`.

  Not for one that compiles for a TPU: libtpu reads the variable too, and ends
  a process over flags that it does not know.
  """
  given = os.environ.get("XLA_FLAGS", "")
  flags = " ".join([*FLAGS, given]).strip()  # of two equal ones the last holds
  return {**os.environ, "XLA_FLAGS": flags, **more}
