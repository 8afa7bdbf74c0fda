"""Is a predicted answer the right one? Rules of EasyR1's grader, exactly.

Kept from mathruler, on which published Geometry3K numbers rest: equal after
normalization; otherwise equal in value, where an integer must be written as
an integer and a fraction in lowest terms, and no decimal is rounded.

Different on purpose:
  * `60°` (Unicode), `m\\angle A = 60`, `∠2 = 60`, `\\overarc{AB} = 60`,
    `\\mathrm{units}` and `2^{3}` for 8 are right; mathruler fails them.
  * A unit is left out where only one side has it, as mathruler does; where
    both state one, it must be the same: 12 cm is neither 12 m nor 12 cm^2.
  * A simpler form of an answer that is itself not simple is right: 2 for
    \\frac{2}{1}, 4 for \\sqrt{16}, \\frac{1}{2} for \\frac{2}{4}.
  * No unknowns, no `1e3`: what is no number (`7:15`, `x+1`) is compared as
    text. So are sets and `≈ 60`: who writes ≈ does not state the value.
  * Values are compared exactly by `exact`, never by sympy.
"""

import re
from fractions import Fraction

from jaxvlm.rewards import answers, exact, units

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
  predicted, predicted_unit = answers.read(prediction or "")
  right, right_unit = answers.read(answer)
  if not predicted or not units.agree(predicted_unit, right_unit):
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


def canonical(answer: str) -> str:
  """Returns one text for all spellings of an answer; "" for no answer.

  What `grade` takes for each other has the same text, so that answers can be
  counted. `grade` alone makes no classes: it asks for a form (120/2 is not 60,
  60 is 120/2) and 5 cm and 5 m are both 5. Here the value decides, whatever
  its form and unit.

  Args:
    answer: a predicted or right answer, without its box.
  """
  # Again until nothing changes: what one pass removes can hide what the next
  # one reads, as in `√2% 3`. A pass more often than this changes nothing.
  for _ in range(8):
    before, answer = answer, _one_pass(answer)
    if answer == before:
      break
  return answer


def _one_pass(answer: str) -> str:
  spelling = answers.normalize(answer)
  if items := _TUPLE.fullmatch(spelling):
    inside = ",".join(map(canonical, items[1].split(",")))
    return f"{spelling[0]}{inside}{spelling[-1]}"
  value = exact.parse(spelling)
  return spelling if value is None else exact.write(value)


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
