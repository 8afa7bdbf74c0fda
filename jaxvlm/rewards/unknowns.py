"""Expressions with unknowns, compared by their values at rational points.

Two expressions of bounded size that agree at a few points are the same but for
luck (Schwartz 1980, Zippel 1979). The points are drawn from the texts, so that
no text can be written to agree at them.
"""

import hashlib
import re

from jaxvlm.rewards import exact

_NAME = re.compile(r"\\?(?:frac|sqrt|pi|cdot|times|div)(?![a-z])|[^\W\d_]")
_PRODUCT = re.compile(r"\)(?=[0-9])")
_POINTS = 3


def names_in(text: str) -> set[str]:
  """Returns the unknowns of a normalized text: letters by themselves."""
  return {name for name in _NAME.findall(text) if len(name) == 1}


def same_value(a: str, b: str) -> bool:
  """Returns whether two expressions are equal, whatever their unknowns are.

  Args:
    a: a normalized answer, as `exact.parse` reads it but for its unknowns.
    b: another.
  """
  names = sorted(names_in(a) | names_in(b))
  digest = hashlib.sha256(f"{a}\0{b}".encode(errors="replace")).digest()
  for point in range(_POINTS if names else 1):
    values = {
      name: 100 + int.from_bytes(digest[2 * at : 2 * at + 2])
      for at, name in enumerate(names[:4], 4 * point)
    }
    value = _value(a, values)
    if value is None or value != _value(b, values):
      return False
  return True


def _value(text: str, values: dict[str, int]) -> exact.Number | None:
  """Returns the value of a text whose unknowns have these values."""

  def put(match: re.Match[str]) -> str:
    # `exact` reads no names; a value in parentheses takes the place of one.
    name = match[0]
    return f"({values[name]})" if name in values else name

  return exact.parse(_PRODUCT.sub(")*", _NAME.sub(put, text)))
