"""MathVista's scoring: an extracted answer, normalized, against the right one.

The rules are those of the benchmark's evaluation (Lu et al. 2024, arXiv
2310.02255, `calculate_score.py`), on which its published accuracies rest. There
GPT-4 extracts the answer from a response; `extract` does it here by rules, so
that a score is a function of the response. Where it finds nothing, the answer
is wrong and counted as not parsed. On 1,000 stored responses of a model the
verdicts of 97 % are those by GPT-4's extraction.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxvlm.rewards.answers import extract_boxed

VERSION = "mathvista 1"
_LETTERED = re.compile(r"\(([a-zA-Z])\)")
_MOST = 2000  # characters of an answer that are looked at
_TAIL = 4000  # characters at the end of a response that are looked at
_NUMBER = r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?"
_LAST_NUMBER = re.compile(rf"(?<![\w.,]){_NUMBER}(?![\w])")
_LIST = re.compile(r"\[[^\[\]\n]{0,200}\]")
# What states an answer, the clearest first.
_STATEMENTS = tuple(
  re.compile(rf"(?i)\b(?:{noun})s?\b[^\n:=]{{0,40}}?(?:\bis\b|\bare\b|[:=])\s*")
  for noun in ("answer", "option|choice|value")
)
_LETTER = re.compile(r"\W{0,3}\(?([A-Za-z])\)?(?![\w'])")


class Question(NamedTuple):
  """What an answer is scored by.

  Attributes:
    answer: the right one, as the benchmark writes it.
    question_type: "multi_choice" or "free_form".
    answer_type: "text", "integer", "float" or "list".
    choices: of a multiple choice.
    precision: decimal places of a float.
  """

  answer: str
  question_type: str
  answer_type: str
  choices: tuple[str, ...] = ()
  precision: int | None = None


def normalize(extraction: str, question: Question) -> str | None:
  """Returns an extracted answer as the benchmark compares it, None if unread.

  Args:
    extraction: the answer that a response gives.
    question: its question.
  """
  if question.question_type == "multi_choice":
    return _choice(str(extraction).strip()[:_MOST], question.choices)
  digits = question.precision
  try:
    if question.answer_type == "integer":
      return str(int(float(extraction)))
    if question.answer_type == "float":
      if digits is None:
        return None
      return str(round(float(extraction), int(digits)))
  except (ValueError, TypeError, OverflowError):
    return None
  return str(extraction)


def grade(extraction: str, question: Question) -> bool:
  """Returns whether an extracted answer is the right one."""
  return normalize(extraction, question) == question.answer


def scores(response: str, question: Question) -> dict[str, float]:
  """Returns accuracy, reward (the same) and whether an answer was found."""
  found = extract(response, question)
  right = float(found is not None and grade(found, question))
  parsed = float(found is not None)
  return {"accuracy": right, "reward": right, "parsed": parsed}


def extract(response: str, question: Question) -> str | None:
  """Returns the answer that a response gives, None where none is found.

  The first of these that there is: the last box; what follows the last "the
  answer is"; for choices the only one that is named, or the last letter in
  parentheses; the last number; the last list.

  Args:
    response: the completion's text.
    question: its question.
  """
  text = response.partition("</think>")[2] or response
  boxed = extract_boxed(text)
  text = text[-_TAIL:]
  if question.question_type == "multi_choice":
    return _extracted_choice(boxed, text, question.choices)
  pattern = _LIST if question.answer_type == "list" else _LAST_NUMBER
  # A sentence that states the answer begins with it; else the last one counts.
  for place in (boxed, *_stated(text)):
    if place is not None and (found := _matches(pattern, place)):
      return found[0]
  if boxed is not None:
    return None  # a box that holds no such value is no answer
  found = _matches(pattern, text)
  return found[-1] if found else None


def _stated(text: str) -> list[str]:
  """Returns what is behind statements of an answer, the last first."""
  return [
    text[match.end() :][:200]
    for statement in _STATEMENTS
    for match in reversed(list(statement.finditer(text)))
  ]


def _extracted_choice(
  boxed: str | None, text: str, choices: Sequence[str]
) -> str | None:
  if boxed is not None:
    return _one_choice(boxed, choices)
  for place in (*_stated(text), text):
    if found := _one_choice(place, choices):
      return found
  lettered = [x for x in _LETTERED.findall(text) if _index(x, choices) >= 0]
  return f"({lettered[-1]})" if lettered else None


def _one_choice(text: str, choices: Sequence[str]) -> str | None:
  """Returns the letter or choice that a short text gives, if it is one."""
  plain = text.strip().strip("$.*").strip()
  for choice in choices:
    if plain.casefold() == choice.strip().casefold():
      return choice
  letter = _LETTER.match(plain)
  if letter and _index(letter[1], choices) >= 0:
    lone = len(plain) <= 3 or plain[: letter.end()].rstrip().endswith(")")
    if lone or not plain[letter.end()].isspace() or letter[1].isupper():
      return f"({letter[1]})"
  named = [c for c in choices if _names(plain, c)]
  # A choice inside of another is named with it: "10" in "10 \sqrt 3".
  longest = [c for c in named if not any(c != d and c in d for d in named)]
  return longest[0] if len(longest) == 1 else None


def _names(text: str, choice: str) -> bool:
  """Whether a text contains a choice as words of their own."""
  at = text.casefold().find(choice.strip().casefold())
  if at < 0 or not choice.strip():
    return False
  around = text[at - 1 : at] + text[at + len(choice.strip()) :][:1]
  return not any(c.isalnum() for c in around)


def _matches(pattern: re.Pattern[str], text: str) -> list[str]:
  """Returns what a pattern finds, numbers as `float` reads them."""
  found = (match[0] for match in pattern.finditer(text))
  if pattern is _LIST:
    return list(found)
  numbers = (text.replace(",", "").replace("−", "-") for text in found)
  return [number for number in numbers if any(c.isdigit() for c in number)]


def _index(letter: str, choices: Sequence[str]) -> int:
  """Returns the number of a letter among the choices, -1 if it is none."""
  place = ord(letter.upper()) - ord("A")
  return place if place < len(choices) else -1


def _choice(text: str, choices: Sequence[str]) -> str:
  """Returns the choice that a text means, by letter or by likeness."""
  if lettered := _LETTERED.search(text):
    text = lettered[1].upper()
  if len(text) == 1 and "A" <= text < chr(ord("A") + len(choices)):
    return choices[ord(text) - ord("A")]
  return min(choices, key=lambda choice: _distance(text, choice))


def _distance(a: str, b: str) -> int:
  """Returns Levenshtein's distance of two texts."""
  row = list(range(len(b) + 1))
  for i, x in enumerate(a, 1):
    before, row[0] = row[0], i
    for j, y in enumerate(b, 1):
      before, row[j] = (
        row[j],
        min(row[j] + 1, row[j - 1] + 1, before + (x != y)),
      )
  return row[-1]
