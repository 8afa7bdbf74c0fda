"""Is a predicted answer the right one? Rules of EasyR1's grader, exactly.

Kept from mathruler, on which published Geometry3K numbers rest: equal after
normalization; otherwise equal in value, where an integer must be written as
an integer and a fraction in lowest terms, and no decimal is rounded.

Different on purpose:
  * `60°` (Unicode), `m\\angle A = 60`, `\\mathrm{units}` and `2^{3}` for 8 are
    right; mathruler fails them.
  * A simpler form of an answer that is itself not simple is right: 2 for
    \\frac{2}{1}, 4 for \\sqrt{16}, \\frac{1}{2} for \\frac{2}{4}.
  * No unknowns, no `1e3`: what is no number (`7:15`, `x+1`) is compared as
    text.
  * Values are compared exactly by `exact`, never by sympy.
"""

import re
from fractions import Fraction

from jaxvlm.rewards import answers, exact

_INTEGER = re.compile(r"-?[0-9]+")
_INTEGER_POWER = re.compile(r"[0-9]+\^(?:[0-9]|\{[0-9]+\})")
_FRACTION = re.compile(r"-?\\frac\{([0-9]+)\}\{([0-9]+)\}")
_TUPLE = re.compile(r"[(\[]([^()\[\]]*,[^()\[\]]*)[)\]]")


def grade(prediction: str | None, answer: str) -> bool:
  """Returns whether `prediction` states `answer`.

  Args:
    prediction: the predicted answer, without its box; None is wrong.
    answer: the right answer.
  """
  predicted, right = (
    answers.normalize(prediction or ""),
    answers.normalize(answer),
  )
  if not predicted:
    return False
  if predicted == right:
    return True
  predicted_tuple = _TUPLE.fullmatch(predicted)
  right_tuple = _TUPLE.fullmatch(right)
  if predicted_tuple and right_tuple:
    if (predicted[0], predicted[-1]) != (right[0], right[-1]):
      return False
    predicted_items = predicted_tuple[1].split(",")
    right_items = right_tuple[1].split(",")
    return len(predicted_items) == len(right_items) and all(
      map(grade, predicted_items, right_items)
    )
  if _INTEGER.fullmatch(right) and not _is_integer(predicted):
    return False
  if _FRACTION.fullmatch(right) and not _is_reduced(predicted):
    return False
  value = exact.parse(right)
  return value is not None and value == exact.parse(predicted)


def _is_integer(text: str) -> bool:
  return bool(_INTEGER.fullmatch(text) or _INTEGER_POWER.fullmatch(text))


def _is_reduced(text: str) -> bool:
  """Whether `text` is anything but a fraction that can be reduced."""
  match = _FRACTION.fullmatch(text)
  if match is None or len(text) > 100:
    return match is None
  numerator, denominator = int(match[1]), int(match[2])
  return denominator != 0 and (
    Fraction(numerator, denominator).denominator == denominator
  )
