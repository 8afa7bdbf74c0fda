"""The few names of NumPy that published unit tests use, without NumPy.

The tests of HumanEval+ and MBPP+ compare floats by `numpy.allclose`; NumPy is
not there inside the sandbox.
"""

import types
from typing import Any


class ndarray:
  """No value of a program is one."""


def allclose(a: Any, b: Any, rtol: float = 1e-05, atol: float = 1e-08) -> bool:
  """Returns whether |a − b| ≤ atol + rtol·|b| in numbers of equal nesting."""
  if isinstance(a, list | tuple) or isinstance(b, list | tuple):
    return len(a) == len(b) and all(
      allclose(x, y, rtol, atol) for x, y in zip(a, b, strict=True)
    )
  return a == b or abs(a - b) <= atol + rtol * abs(b)


def module() -> types.ModuleType:
  """Returns what `import numpy` gives to tests."""
  made = types.ModuleType("numpy")
  made.__dict__.update(
    ndarray=ndarray,
    allclose=allclose,
    isclose=allclose,
    float32=ndarray,
    float64=ndarray,
    inf=float("inf"),
    nan=float("nan"),
  )
  return made
