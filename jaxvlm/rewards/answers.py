"""The final answer of a response: found, and written in one way.

The rules are those of the usual MATH-style graders (last \\boxed{…}; units,
degree and percent signs, `$` and `x =` mean nothing), in linear time.
"""

import re

_BOX = "\\boxed{"
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
  "△": "\\triangle ",
  "，": ",",
}
_SYMBOL = re.compile("|".join(map(re.escape, _SYMBOLS)))

# Layout without meaning.
_LAYOUT = re.compile(
  r"\\(?:left|right|displaystyle|quad|qquad)(?![a-z])|\\[,;:! ()\[\]]|\\?\$|~"
)
_FRACTION_NAME = re.compile(r"\\[dtc]frac(?![a-z])")
_WRAPPER = re.compile(
  r"\\(?:text|mathrm|textrm|textbf|textit|mathbf|mathit|mbox|operatorname)"
  r"\s*\{([^{}]*)\}"
)
_DEGREE = re.compile(
  r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))"
  r"|\^\s*\{\s*\\degrees?\s*\}|\^?\s*\\degrees?(?![a-z])"
)
_PERCENT = re.compile(r"\\?%|\bpercent\b")
_NAMED = re.compile(
  r"\s*(?:m\s*)?(?:\\(?:angle|triangle|overline|widehat|arc|measuredangle)\s*"
  r"(?![a-z]))?\{?\s*[A-Za-z]{1,12}(?:_\{?\w\}?)?\s*\}?\s*=\s*([^=]+)"
)
_UNIT = re.compile(
  r"(?<=[\d})\s])\s*(?:square\s+|cubic\s+|sq\.?\s+|cu\.?\s+)?"
  r"(?:degree|unit|kilometer|centimeter|millimeter|meter|mile|feet|foot|inche"
  r"|inch|yard|second|minute|hour|day|week|month|year|km|cm|mm|ft|yd"
  r"|(?<=\s)(?:in|m|mi))s?\.?\s*(?:\^\s*\{?\s*[23]\s*\}?)?\s*\.?\s*$",
  re.IGNORECASE,
)
_THOUSANDS_MARK = re.compile(
  r"(?<=[0-9])(?:\\,|,\\!|\{,\})(?=[0-9]{3}(?![0-9]))"
)
_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?")
_MIXED = re.compile(r"([-+]?\s*[0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)")
_BLANK = re.compile(r"(?<![0-9])\s+|\s+(?![0-9])")
_SHORT_NUMERATOR = re.compile(r"\\frac\s*([0-9])")
_SHORT_DENOMINATOR = re.compile(r"\\frac(\{[^{}]*\})\s*([0-9])")
_SHORT_ROOT = re.compile(r"\\?sqrt(?:\(([0-9]+)\)|([0-9]+)(?![.0-9]))")
_SLASH = re.compile(r"([-+]?)\{?([0-9]+)\}?/\{?([0-9]+)\}?")
_SIGNED_FRACTION = re.compile(r"\\frac\{-([0-9]+)\}\{([0-9]+)\}")
_WHOLE_DECIMAL = re.compile(r"([-+]?[0-9]+)\.0*")


def extract_boxed(text: str) -> str | None:
  """Returns what the last `\\boxed{…}` of `text` holds, None if nothing.

  Braces are matched; escaped ones (`\\{`) are content. A last box that is
  never closed, as in a response cut short, is no answer. Linear time.
  """
  start = text.rfind(_BOX)
  if start < 0:
    return None
  start += len(_BOX)
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
  number, `x =` and `m\\angle A =`, commas between thousands, blanks but those
  between digits, a final period. Rewritten: \\dfrac and a/b as \\frac{a}{b},
  \\sqrt3 as \\sqrt{3}, `12.0` as `12`, `.5` as `0.5`, letters in lower case.
  """
  text = answer.strip()
  if len(text) > _MAX_LENGTH:
    return text
  text = _SYMBOL.sub(lambda match: _SYMBOLS[match[0]], text)
  text = _LAYOUT.sub(" ", _THOUSANDS_MARK.sub(",", text))
  text = _FRACTION_NAME.sub(r"\\frac", text)
  text = _WRAPPER.sub(r" \1 ", text)
  text = _PERCENT.sub("", _DEGREE.sub("", text))
  # One blank at most in a row: the patterns below backtrack over blanks.
  text = " ".join(text.split())
  if named := _NAMED.fullmatch(text):
    text = named[1]
  text = _UNIT.sub("", text).strip()
  text = text.removesuffix(".").strip()
  while text.startswith("{") and text.endswith("}") and _encloses(text):
    text = text[1:-1].strip()
  if _THOUSANDS.fullmatch(text):
    text = text.replace(",", "")
  if mixed := _MIXED.fullmatch(text):
    text = f"{mixed[1]}\\frac{{{mixed[2]}}}{{{mixed[3]}}}"
  text = _BLANK.sub("", text).lower()
  text = _SHORT_NUMERATOR.sub(r"\\frac{\1}", text)
  text = _SHORT_DENOMINATOR.sub(r"\\frac\1{\2}", text)
  text = _SHORT_ROOT.sub(lambda m: f"\\sqrt{{{m[1] or m[2]}}}", text)
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


def _encloses(text: str) -> bool:
  """Whether the first brace of `text` is closed by its last character."""
  depth = 0
  for index, char in enumerate(text):
    depth += (char == "{") - (char == "}")
    if depth == 0:
      return index == len(text) - 1
  return False
