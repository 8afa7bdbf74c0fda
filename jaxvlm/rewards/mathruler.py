"""The verdicts of mathruler 0.1.0, by which EasyR1 and verl grade Geometry3K.

For like-for-like numbers: its rules with its quirks (a cube root is read as a
square root, `(1+√5)/2` as 1 + √5/2, 59.99999999 as an integer), which go back
to the graders of MATH (Hendrycks et al. 2021) and PRM800K (Lightman et al.
2023). Two answers are the same if they are equal after either normalization, or
if their difference is zero. That last step is sympy's in the original; here it
is exact arithmetic, with unknowns by their values at rational points. What
sympy alone can simplify (sines, factorials, logarithms) is not the same here.

`jaxvlm.rewards.math` is the better grader.
"""

import re
from fractions import Fraction

from jaxvlm.rewards import unknowns

VERSION = "mathruler 0.1.0, exact 1"
_MAX_LENGTH = 1000  # nothing longer is an answer
_MAX_DEPTH = 20
_BRACKETS = "()[]"

_WHOLE_TEXT = re.compile(r"^\\text\{(?P<text>.+?)\}$")
_BEFORE_UNITS = (
  ("\n", ""),
  ("\\!", ""),
  ("\\\\", "\\"),
  ("tfrac", "frac"),
  ("dfrac", "frac"),
  ("\\left", ""),
  ("\\right", ""),
  ("^{\\circ}", ""),
  ("^\\circ", ""),
  ("\\$", ""),
)
_BEHIND_UNITS = (("\\%", ""), ("%", ""), (" .", " 0."), ("{.", "{0."))
_INTEGERS = re.compile(r"(0|-?[1-9][0-9]*)/(0|-?[1-9][0-9]*)")

_SIGNS = (
  ("\\%", "%"),
  ("\\$", "$"),
  ("$", ""),
  ("%", ""),
  (" or ", " , "),
  (" and ", " , "),
  ("million", "*10^6"),
  ("billion", "*10^9"),
  ("trillion", "*10^12"),
)
_UNITS = tuple(
  re.compile(rf"{unit}(es)?(s)? *(\^[0-9]+)?")
  for unit in (
    "degree cm centimeter meter mile second minute hour day week month year"
    " foot feet inch yard"
  ).split()
)
_DEGREES = re.compile(r"\^ *\\circ")
_THIN = re.compile(r",\\! *")
_MIXED = re.compile(r"([0-9]) +([0-9])")
_THOUSANDS = re.compile(r"(\d)(,)(\d\d\d)($|\D)")
_FRACTION = re.compile(r"^-?[0-9]+.?/0*[1-9][0-9]*.?$")
_NO_POWER = re.compile(r"\^\{|\^\(|\^[0-9]+\^|\^[0-9][0-9]+")

_LATEX = re.compile(r"\\([A-Za-z]+)\s*|\\(.)|([{}])|([^\\{}])", re.DOTALL)
# What LaTeX commands show; commands of no such name show their arguments alone.
_SHOWN = {
  "pi": "pi",
  "cdot": "*",
  "times": "*",
  "infty": "inf",
  "cup": "U",
  "circ": "∘",
  "angle": "∠",
  "le": "≤",
  "leq": "≤",
  "ge": "≥",
  "geq": "≥",
  "approx": "≈",
  "pm": "±",
  "div": "÷",
  "ldots": "…",
  "prime": "'",
  "theta": "θ",
  "alpha": "α",
  "beta": "β",
  "gamma": "γ",
  "phi": "ϕ",
  "sin": "sin",
  "cos": "cos",
  "tan": "tan",
  "log": "log",
  "ln": "ln",
  "quad": "  ",
  ",": " ",
  ";": " ",
  ":": " ",
  " ": " ",
  "!": "",
  "\\": "\n",
}
# A root or power of a decimal is a decimal in sympy, which equals no root.
_ROUNDED = re.compile(r"sqrt\([^()]*\.|\^[0-9]*\.")


def boxed(text: str) -> str:
  """Returns what the last `\\boxed{…}` holds, "None" if nothing, as mathruler.

  Braces are counted whether escaped or not.
  """
  _, found, content = text.rpartition("\\boxed{")
  depth = 1
  for match in re.finditer("[{}]", content if found else ""):
    depth += 1 if match[0] == "{" else -1
    if not depth:
      return content[: match.start()].strip()
  return "None"


def grade(prediction: str | None, answer: str) -> bool:
  """Returns whether mathruler takes `prediction` for `answer`.

  Args:
    prediction: the predicted answer, without its box; None is wrong.
    answer: the right answer.
  """
  if prediction is None:
    return False
  if max(len(prediction), len(answer)) > _MAX_LENGTH:
    return prediction.strip() == answer.strip()
  if _as_in_math(prediction) == _as_in_math(answer):
    return True
  given, right = _as_in_prm(prediction), _as_in_prm(answer)
  if given == right:
    return True
  if not given:
    return False
  items, others = _items(right), _items(given)
  if len(items) > 1 and (right[0], right[-1]) != (given[0], given[-1]):
    return False
  # No item at all, of an empty answer, is no right one.
  return len(items) == len(others) > 0 and all(map(_same_item, items, others))


def _same_item(right: str, given: str) -> bool:
  if _FRACTION.search(right) and _FRACTION.search(given):
    return right == given
  if _is_integer(right) != _is_integer(given):
    return False
  return _same_value(right, given)


def _as_in_math(text: str) -> str:
  """Returns a text in MATH's spelling; as it stands where that fails."""
  text = text.strip()
  if whole := _WHOLE_TEXT.search(text):
    text = whole["text"].strip()
  try:
    return _math_spelling(text)
  except ValueError:
    return text


def _math_spelling(text: str) -> str:
  text = _replaced(text, _BEFORE_UNITS)
  before, *unit = text.split("\\text{ ")
  if len(unit) > 1:
    raise ValueError("two units")
  text = _replaced(before, _BEHIND_UNITS)
  if not text:
    return text
  text = "0" + text if text[0] == "." else text
  sides = text.split("=")
  if len(sides) == 2 and len(sides[0]) <= 2:
    text = sides[1]
  first, *roots = text.split("\\sqrt")
  if not all(roots):
    raise ValueError("a root of nothing")
  text = first + "".join(
    "\\sqrt" + (root if root[0] == "{" else f"{{{root[0]}}}{root[1:]}")
    for root in roots
  )
  text = _with_braces(text.replace(" ", ""))
  if text == "0.5":
    return "\\frac{1}{2}"
  if slash := _INTEGERS.fullmatch(text):
    return f"\\frac{{{slash[1]}}}{{{slash[2]}}}"
  return text


def _with_braces(text: str) -> str:
  """Returns \\frac12 and \\frac1{2} as \\frac{1}{2}."""
  first, *fractions = text.split("\\frac")
  out = first
  for piece in fractions:
    if not piece:
      raise ValueError("a fraction of nothing")
    if piece[0] != "{":
      if len(piece) < 2:
        return text
      below = piece[1] if piece[1] == "{" else f"{{{piece[1]}}}"
      piece = f"{{{piece[0]}}}{below}{piece[2:]}"
    out += "\\frac" + piece
  return out


def _as_in_prm(text: str) -> str:
  """Returns a text in PRM800K's spelling."""
  if whole := _WHOLE_TEXT.search(text):
    text = whole["text"]
  text = _replaced(text, _SIGNS)
  for unit in _UNITS:
    text = unit.sub("", text)
  text = _DEGREES.sub("", text)
  if text[:1] + text[-1:] == "{}":
    text = text[1:-1]
  text = _THIN.sub("", text)
  value = _float(text)
  if value is not None and _near_integer(value):
    text = str(round(value))
  if "\\" in text:
    text = _shown(text)
  text = re.sub("- *", "-", text)
  text = _MIXED.sub(r"\1+\2", text).replace(" ", "")
  text = text.replace("{", "").replace("}", "").lower()
  value = _float(text.replace(",", "")) if _is_integer(text) else None
  return text if value is None else str(int(value))


def _shown(text: str) -> str:
  """Returns what LaTeX shows, on one line; the text where it cannot be read."""
  text = text.replace("\\tfrac", "\\frac").replace("\\dfrac", "\\frac")
  text = text.replace("\\frac", " \\frac")
  # latex2text writes these as one character, the original back as words.
  try:
    shown = _Latex(text).whole()
  except ValueError:
    return text
  return re.sub("[√π∞∪·×]", lambda match: _WORDS[match[0]], shown).strip()


_WORDS = {"√": "sqrt", "π": "pi", "∞": "inf", "∪": "U", "·": "*", "×": "*"}


class _Latex:
  """Reads LaTeX as pylatexenc shows it: arguments without their braces."""

  def __init__(self, text: str):
    self._tokens = list(_LATEX.finditer(text + ("\\" * text.endswith("\\"))))
    self._at = 0
    self._depth = 0

  def whole(self) -> str:
    out = ""
    while self._at < len(self._tokens):
      out += self._next()
    return out

  def _next(self) -> str:
    """Returns what the next token shows, with its arguments."""
    if self._at >= len(self._tokens):
      raise ValueError("an argument is missing")
    name, sign, brace, letter = self._tokens[self._at].groups()
    self._at += 1
    if brace:
      return self._group() if brace == "{" else ""
    if letter:
      return "\xa0" if letter == "~" else letter
    if name == "frac":
      above = self._argument()
      return f"{above}/{self._argument()}"
    if name == "sqrt":
      self._skip_degree()
      return f"sqrt({self._argument()})"
    if name == "mbox":
      self._argument()
      return ""
    if name == "not":
      return {"=": "≠"}.get(self._next(), "")
    shows_itself = sign is not None and sign in "{}%$&#_"
    return _SHOWN.get(name or sign or "", sign if shows_itself else "")

  def _argument(self) -> str:
    while self._at < len(self._tokens) and self._tokens[self._at][0].isspace():
      self._at += 1
    return self._next()

  def _group(self) -> str:
    self._depth += 1
    if self._depth > _MAX_DEPTH:
      raise ValueError("too deep")
    out = ""
    while self._at < len(self._tokens) and self._tokens[self._at][0] != "}":
      out += self._next()
    self._at += 1
    self._depth -= 1
    return out

  def _skip_degree(self) -> None:
    left = self._tokens[self._at :]
    if left and left[0][0] == "[":
      ends = [i for i, token in enumerate(left) if token[0] == "]"]
      self._at += ends[0] + 1 if ends else 0


def _items(text: str) -> list[str]:
  """Returns the items of a tuple, or the text alone."""
  text = _without_thousands(text)
  inside = text[1:-1]
  if (
    len(text) > 2
    and text[0] in _BRACKETS
    and text[-1] in _BRACKETS
    and not any(bracket in inside for bracket in _BRACKETS)
  ):
    return [item.strip() for item in inside.split(",")]
  return [text] if text else []


def _same_value(right: str, given: str) -> bool:
  """Whether two normalized texts have one value, as far as that is asked."""
  both = f"({right})-({given})"
  letters = both.replace("sqrt", "").replace("frac", "")
  unknown = {letter for letter in letters if letter.isalpha()}
  if len(unknown) > 2 or _NO_POWER.search(both) or _ROUNDED.search(both):
    return False
  return unknowns.same_value(right, given)


def _replaced(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
  for old, new in pairs:
    text = text.replace(old, new)
  return text


def _without_thousands(text: str) -> str:
  while (shorter := _THOUSANDS.sub(r"\1\3\4", text)) != text:
    text = shorter
  return text


def _is_integer(text: str) -> bool:
  value = _float(_without_thousands(text))
  return value is not None and _near_integer(value)


def _near_integer(value: float) -> bool:
  whole = abs(value) != float("inf") and value == value
  return whole and abs(Fraction(value) - round(value)) <= Fraction(1, 10**7)


def _float(text: str) -> float | None:
  try:
    return float(text)
  except (ValueError, OverflowError):
    return None
