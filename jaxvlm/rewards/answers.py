"""The final answer of a response: found, and written in one way.

The rules are those of the usual MATH-style graders (last \\boxed{…}; units,
degree and percent signs, `$` and `x =` mean nothing), in linear time.
"""

import re
from typing import NamedTuple

from jaxvlm.rewards import units

_BOXES = (re.compile(r"\\boxed\s*\{"), re.compile(r"\\fbox\s*\{"))
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)

# Nothing longer is an answer; such text is compared as it stands.
_MAX_LENGTH = 300

_SYMBOLS = {
  "−": "-",
  "–": "-",
  "·": "\\cdot ",
  "×": "\\times ",
  "÷": "\\div ",
  "⁄": "/",
  "π": "\\pi ",
  "√": "\\sqrt ",
  "∛": "\\sqrt[3] ",
  "∜": "\\sqrt[4] ",
  "²": "^{2}",
  "³": "^{3}",
  "½": "\\frac{1}{2}",
  "¼": "\\frac{1}{4}",
  "¾": "\\frac{3}{4}",
  "°": "\\degree ",
  "º": "\\degree ",
  "˚": "\\degree ",
  "∘": "\\circ ",
  "∠": "\\angle ",
  "∡": "\\angle ",
  "△": "\\triangle ",
  "θ": "\\theta ",
  "，": ",",
}
_SYMBOL = re.compile("|".join(map(re.escape, _SYMBOLS)))

# Layout without meaning.
_LAYOUT = re.compile(
  r"\\(?:left|right|displaystyle|quad|qquad)(?![a-z])|\\[,;:! ()\[\]\\]"
  r"|\\?\$|~|\\$"
)
_FRACTION_NAME = re.compile(r"\\[dtc]frac(?![a-z])")
_OPENING = re.compile(
  r"(?P<wrapper>\\(?:text|mathrm|textrm|textbf|textit|textsf|texttt|mathbf"
  r"|mathit|mathsf|boldsymbol|bm|mbox|operatorname|boxed|fbox)\s*\{)"
  r"|\\.|[{}]",
  re.DOTALL,
)
_DEGREE = re.compile(
  r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))"
  r"|\^\s*\{\s*\\degrees?\s*\}|\^?\s*\\degrees?(?![a-z])"
)
_PERCENT = re.compile(r"\\?%|\bpercent\b")

# What may stand before `=`: a variable, points (AB), a numbered angle, an
# arc, a word of geometry. Other words are no names: `not = 60` is not 60.
_POINTS = r"(?:[A-Za-z]|[A-Z](?:\s?[A-Z]){1,5}|[a-z]{2}(?<!no))"
_GREEK = r"\\(?:theta|alpha|beta|gamma|phi|ell)\b"
_FIGURE = (
  r"\\(?:angle|measuredangle|triangle|overline|overarc|overparen|widehat|arc"
  r"|overset\s?\{\s?\\frown\s?\}|stackrel\s?\{\s?\\frown\s?\}|sin|cos|tan"
  r"|overrightarrow|overleftrightarrow|bar|vec|hat)(?![a-z])\s?"
)
_SUBSCRIPT = r"(?:\s?_\s?(?:\w|\{[^{}=]{1,20}\}))?'{0,2}"
_LABEL = (
  rf"(?:{_FIGURE}(?:\{{\s?)?(?:[A-Za-z](?:\s?[A-Za-z]){{0,5}}"
  rf"|{_GREEK}|[0-9]{{1,2}})(?:\s?\}})?"
  rf"|(?:{_POINTS}|{_GREEK}){_SUBSCRIPT})"
)
_WORD = (
  r"(?:answer|area|perimeter|circumference|volume|length|width|height|radius"
  r"|diameter|distance|altitude|hypotenuse|median|base|side|leg|slope|measure"
  r"|arc|angle|ratio|value|sum|total)"
)
_NAMED = re.compile(
  rf"(?:(?i:the\s)?(?i:{_WORD})(?:\sof(?:\sthe)?(?:\s(?:{_LABEL}"
  rf"|(?i:{_WORD})))?|\s{_LABEL})?"
  rf"|(?:m\s?)?(?:{_LABEL}|\(\s?{_LABEL}\s?\)))?\s?=(?!=)\s?"
)
_EMPTY = re.compile(r"^(?:\{\s?\}\s?)+|(?<!\\)(?:\{\s?\}\s?)+$")
_THOUSANDS_MARK = re.compile(
  r"(?<=[0-9])(?:\\,|,\\!|\{,\})(?=[0-9]{3}(?![0-9]))"
)
_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?")
_MIXED = re.compile(r"([-+]?\s*[0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)")
_BLANK = re.compile(r"(?<![0-9])\s+|\s+(?![0-9])")
_SHORT_NUMERATOR = re.compile(r"\\frac\s*([0-9])")
_SHORT_DENOMINATOR = re.compile(r"\\frac(\{[^{}]*\})\s*([0-9])")
_SHORT_ROOT = re.compile(
  r"\\?sqrt(\[[0-9]{1,2}\])?(?:\(([0-9]+)\)|([0-9]+)(?![.0-9]))"
)
_SLASH = re.compile(r"([-+]?)\{?([0-9]+)\}?/\{?([0-9]+)\}?")
_SIGNED_FRACTION = re.compile(r"\\frac\{-([0-9]+)\}\{([0-9]+)\}")
_WHOLE_DECIMAL = re.compile(r"([-+]?[0-9]+)\.0*")


class Answer(NamedTuple):
  """An answer as it is compared.

  Attributes:
    spelling: as `normalize` writes it.
    unit: as `units.split` names it; "" if there is none.
  """

  spelling: str
  unit: str


def extract_boxed(text: str) -> str | None:
  """Returns what the last `\\boxed{…}` of `text` holds, None if nothing.

  Without any, the last `\\fbox{…}` counts. Braces are matched; escaped ones
  (`\\{`) are content. A last box that is never closed, as in a response cut
  short, is no answer. Linear time.
  """
  for box in _BOXES:
    start = -1
    for match in box.finditer(text):
      start = match.end()
    if start >= 0:
      return _until_closed(text, start)
  return None


def _until_closed(text: str, start: int) -> str | None:
  depth = 1
  for match in _BRACE.finditer(text, start):
    if match[0] == "{":
      depth += 1
    elif match[0] == "}":
      depth -= 1
    if depth == 0:
      return text[start : match.start()].strip()
  return None


def normalize(answer: str) -> str:
  """Returns `answer` in the spelling in which answers are compared.

  Removed: `$`, layout commands, degree and percent signs, units after a
  number, `x =` and `m\\angle A =`, parentheses around the whole, commas
  between thousands, blanks but those between digits, a final period.
  Rewritten: \\dfrac and a/b as \\frac{a}{b}, \\sqrt3 as \\sqrt{3}, `12.0` as
  `12`, `.5` as `0.5`, letters in lower case.
  """
  return read(answer).spelling


def read(answer: str) -> Answer:
  """Returns the spelling of `normalize` and the unit that it leaves out."""
  if len(answer.strip()) > _MAX_LENGTH:
    return Answer(answer.strip(), "")
  text = plain(answer)
  # A blank in its place: 6°30 is not 630.
  text, degrees = _DEGREE.subn(" ", text)
  text, percents = _PERCENT.subn(" ", text)
  # One blank at most in a row: the patterns below backtrack over blanks.
  text, unit = _peeled(" ".join(text.split()))
  if not unit:
    unit = "degree" if degrees else "percent" if percents else ""
  return Answer(_spelled(text), unit)


def plain(answer: str) -> str:
  """Returns an answer without layout and fonts, its symbols as LaTeX."""
  text = answer.strip()
  if len(text) > _MAX_LENGTH:
    return text
  text = _SYMBOL.sub(lambda match: _SYMBOLS[match[0]], text)
  text = _LAYOUT.sub(" ", _THOUSANDS_MARK.sub(",", text))
  return _unwrapped(_FRACTION_NAME.sub(r"\\frac", text))


def _unwrapped(text: str) -> str:
  """Returns `text` with the content of \\text{…} and the like in its place."""
  pieces: list[str] = []
  # Where each open brace stands in pieces, and what replaces the pair.
  opened: list[tuple[int, str, str]] = []
  at = 0
  for match in _OPENING.finditer(text):
    pieces.append(text[at : match.start()])
    at = match.end()
    if match[0] == "}" and opened:
      where, left, right = opened.pop()
      pieces[where] = left
      pieces.append(right)
      continue
    if match["wrapper"]:
      opened.append((len(pieces), " ", " "))
    elif match[0] == "{":
      opened.append((len(pieces), "{", "}"))
    pieces.append(match[0])
  return "".join([*pieces, text[at:]])


def _peeled(text: str) -> tuple[str, str]:
  """Returns `text` without what encloses the answer, and the answer's unit.

  Names, units, brackets and empty braces can stand inside each other, so they
  are taken off one by one until nothing is left to take.
  """
  unit = ""
  before = None
  while before != text:
    before = text
    text, found = units.split(_unnamed(text))
    unit = unit or found
    text = text.removesuffix(".").strip()
    text = _EMPTY.sub("", text).strip().removeprefix("+").strip()
    if text[:1] + text[-1:] in ("{}", "()", "[]") and _encloses(text):
      text = text[1:-1].strip()
  return text, unit


def _unnamed(text: str) -> str:
  """Returns what is behind `x =` or `AB = CD =`."""
  at = 0
  while named := _NAMED.match(text, at):
    at = named.end()
  return text if "=" in text[at:] else text[at:]


def _encloses(text: str) -> bool:
  """Whether the first bracket is closed by the last and holds one answer.

  (5) is 5; (5, 3) and [0, 5] are points and intervals.
  """
  opening, closing = text[0], text[-1]
  depth = 0  # of every kind of bracket
  own = 0  # of this kind
  for index, char in enumerate(text):
    depth += (char in "([{") - (char in ")]}")
    own += (char == opening) - (char == closing)
    if own == 0:
      return index == len(text) - 1
    if opening != "{" and depth == 1 and char in ",;":
      return False
  return False


def _spelled(text: str) -> str:
  """Returns the bare answer with fractions, roots and signs in one form."""
  if _THOUSANDS.fullmatch(text):
    text = text.replace(",", "")
  if mixed := _MIXED.fullmatch(text):
    text = f"{mixed[1]}\\frac{{{mixed[2]}}}{{{mixed[3]}}}"
  text = _BLANK.sub("", text).lower()
  text = _SHORT_NUMERATOR.sub(r"\\frac{\1}", text)
  text = _SHORT_DENOMINATOR.sub(r"\\frac\1{\2}", text)
  text = _SHORT_ROOT.sub(
    lambda m: f"\\sqrt{m[1] or ''}{{{m[2] or m[3]}}}", text
  )
  if slash := _SLASH.fullmatch(text):
    text = f"{slash[1]}\\frac{{{slash[2]}}}{{{slash[3]}}}"
  if signed := _SIGNED_FRACTION.fullmatch(text):
    text = f"-\\frac{{{signed[1]}}}{{{signed[2]}}}"
  text = text.removeprefix("+")
  if text.startswith((".", "-.")):
    text = text.replace(".", "0.", 1)
  if whole := _WHOLE_DECIMAL.fullmatch(text):
    text = whole[1]
  return text
