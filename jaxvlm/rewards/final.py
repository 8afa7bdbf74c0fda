"""The default reward: does a response give the right answer, and only that?

`grade` decides, and where it says no, forms that people write for one answer:

  scientific notation    1.5 × 10³ and 1.5e3 for 1500
  blanks in thousands    12 500 for 12500
  percent                50% for 0.5
  sets                   {2, 1} and 2, 1 for {1, 2}
  lists in words         1 and 2, 1 or 2 for 1, 2
  choices                A. 60, (A) 60 and option A for A; A for (A) 60
  unknowns               2(x + 1) for 2x + 2

Whatever is added here pays a policy that is trained on it, so every form is one
that states one answer. A response with several boxes that differ earns nothing.
"""

import re

from jaxvlm.rewards import answers, exact, unknowns
from jaxvlm.rewards.math import canonical, grade

VERSION = "final 1"
_MAX_LENGTH = 300
_MOST_BOXES = 100
_LONGEST = 60  # characters of a response that is an answer and nothing else

_MOST_UNKNOWNS = 3

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_SAID = re.compile(
  r"(?i)(?:so |thus |therefore,? |hence,? )?(?:the )?(?:final |correct )?answer"
  r"(?: is|:| =)\s*"
)
_SCIENTIFIC = re.compile(
  r"(-?[1-9](?:\.[0-9]+)?)"
  r"(?:[eE]([-+]?[0-9]{1,3})"
  r"|(?:\\times|\\cdot|\*)10\^(?:\{([-+]?[0-9]{1,3})\}|([0-9])))"
)
_BLANKS = re.compile(r"-?[0-9]{1,3}(?: [0-9]{3})+(?:\.[0-9]+)?")
_SET = re.compile(r"\\\{([^{}]*)\\\}")
_WORDS = re.compile(r",?\s+(?:and|or)\s+")
_CHOICE = re.compile(
  r"(?:(?i:option|choice|answer)\s*:?\s*)?"
  r"(?:\(\s*([A-J])\s*\)|([A-J])(?=\s*(?:[.:)]|$)))\s*[.:)]?\s*(.*)",
  re.DOTALL,
)
_OPERATOR = re.compile(r"[-+*/^]|\\frac|[0-9][a-z]")
# A letter by itself in a choice's text names another choice.
_LETTER = re.compile(r"(?<![\w\\])[A-J](?!\w)")


def scores(response: str, answer: str) -> dict[str, float]:
  """Returns reward = accuracy, and whether the response gives an answer.

  Args:
    response: the completion's text.
    answer: the right answer.
  """
  found = final_answer(response)
  right = float(found is not None and same(found, answer))
  return {
    "accuracy": right,
    "answered": float(found is not None),
    "reward": right,
  }


def final_answer(response: str) -> str | None:
  """Returns the one answer that a response gives, None if none or several.

  Behind the thinking, if there is any: what stands in the boxes, which must all
  hold the same; without a box, what follows "the answer is" in the last line,
  or a response of one short line.

  Args:
    response: the completion's text.
  """
  text = response.rpartition("</think>")[2].strip()
  boxes = list(_BOX.finditer(text))
  if boxes:
    return _one_of(text, [box.start() for box in boxes])
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  if not lines:
    return None
  if said := _SAID.match(lines[-1]):
    return lines[-1][said.end() :] or None
  return lines[0] if len(lines) == 1 and len(text) <= _LONGEST else None


def _one_of(text: str, starts: list[int]) -> str | None:
  """Returns what all boxes hold; None where they differ or one is open."""
  if len(starts) > _MOST_BOXES:
    return None
  found = None
  for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
    content = answers.extract_boxed(text[start:end])
    if content is None:
      return None
    if found not in (None, content) and canonical(content) != canonical(found):
      return None
    found = content
  return found


def same(prediction: str, answer: str) -> bool:
  """Returns whether `prediction` states `answer`, in any form above.

  Args:
    prediction: the predicted answer, without its box.
    answer: the right answer.
  """
  if grade(prediction, answer):
    return True
  if max(len(prediction), len(answer)) > _MAX_LENGTH:
    return False
  return any(
    rule(prediction, answer)
    for rule in (_same_number, _same_items, _same_choice, _same_expression)
  )


def _same_number(prediction: str, answer: str) -> bool:
  """Scientific notation, blanks between thousands, percent."""
  predicted, unit = answers.read(prediction)
  right, right_unit = answers.read(answer)
  value = exact.parse(right)
  if value is None or not predicted:
    return False
  if power := _SCIENTIFIC.fullmatch(predicted):
    exponent = next(group for group in power.groups()[1:] if group)
    written = exact.parse(f"{power[1]}*10^{{{int(exponent)}}}")
    return written == value and unit in ("", right_unit)
  if _BLANKS.fullmatch(predicted):
    return exact.parse(predicted.replace(" ", "")) == value
  if unit == "percent" and not right_unit:
    share = exact.parse(f"({predicted})/100")
    return share is not None and share == value
  return False


def _same_items(prediction: str, answer: str) -> bool:
  """Sets in any order; lists whose last two items are joined by a word."""
  right, given = answers.plain(answer), answers.plain(prediction)
  right_set, given_set = _SET.fullmatch(right), _SET.fullmatch(given)
  if not right_set and "," not in right and not _WORDS.search(right):
    return False
  expected = _items(right_set[1] if right_set else right)
  found = _items(given_set[1] if given_set else given)
  if len(expected) != len(found) or (given_set and not right_set):
    return False
  if not right_set:
    return all(map(grade, found, expected))
  for item in expected:
    match = next((other for other in found if grade(other, item)), None)
    if match is None:
      return False
    found.remove(match)
  return True


def _items(text: str) -> list[str]:
  return [item.strip() for item in _WORDS.sub(",", text).split(",")]


def _same_choice(prediction: str, answer: str) -> bool:
  """A letter with or without the text of its choice."""
  right = _choice(answer)
  if right is None:
    return False
  letter, text = right
  given = _choice(prediction)
  if given is None:
    return bool(text) and grade(prediction, text)
  if given[0] != letter:
    return False
  return not given[1] or not text or grade(given[1], text)


def _same_expression(prediction: str, answer: str) -> bool:
  """Expressions with unknowns; names of points (ABC) are no products."""
  predicted, right = answers.read(prediction), answers.read(answer)
  expressions = (predicted.spelling, right.spelling)
  names = set().union(*map(unknowns.names_in, expressions))
  return (
    1 <= len(names) <= _MOST_UNKNOWNS
    and all(map(_OPERATOR.search, expressions))
    and predicted.unit in ("", right.unit)
    and unknowns.same_value(*expressions)
  )


def _choice(text: str) -> tuple[str, str] | None:
  """Returns (letter, text) of a choice, if a text is one and names no other."""
  found = _CHOICE.fullmatch(answers.plain(text).strip("* "))
  if found is None or _LETTER.search(found[3]) or _WORDS.search(found[3]):
    return None
  return found[1] or found[2], found[3].strip()
