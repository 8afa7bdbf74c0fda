"""The unit behind a number: found, and compared with another.

Most answers carry none, because the question names it. So a unit decides
only where both sides state one: 12 cm and 12 m differ, 12 and 12 cm do not.
Nothing is converted: 100 cm is not 1 m.
"""

import re

# Unit -> its spellings. "unit" stands for any length.
_SPELLINGS = {
  "degree": "degree degrees deg degs",
  "percent": "percent",
  "unit": "unit units",
  "mm": "mm millimeter millimeters millimetre millimetres",
  "cm": "cm centimeter centimeters centimetre centimetres",
  "m": "m meter meters metre metres",
  "km": "km kilometer kilometers kilometre kilometres",
  "in": "in ins inch inches inche",
  "ft": "ft fts foot foots feet feets",
  "yd": "yd yds yard yards",
  "mi": "mi mis mile miles",
  "second": "s sec secs second seconds",
  "minute": "min mins minute minutes",
  "hour": "h hr hrs hour hours",
  "day": "day days",
  "week": "week weeks",
  "month": "month months",
  "year": "year years",
  "gram": "gram grams",
  "kg": "kg kgs kilogram kilograms",
  "pound": "lb lbs pound pounds",
  "ounce": "oz ounce ounces",
  "ml": "ml milliliter milliliters millilitre millilitres",
  "liter": "liter liters litre litres",
  "gallon": "gallon gallons",
  "dollar": "dollar dollars",
  "cent": "cent cents",
}
_UNITS = {
  word: unit for unit, words in _SPELLINGS.items() for word in words.split()
}
_LENGTHS = ("mm", "cm", "m", "km", "in", "ft", "yd", "mi")
# These are also names of variables, or words: 5m and 5s are no lengths or
# times. A blank in front makes them units, but not of s and h, which are
# units behind a stroke only.
_AFTER_A_BLANK = ("m", "in", "ins", "mi", "mis", "min", "mins")
_BEHIND_A_STROKE = ("s", "h")


def _either(words) -> str:
  return "|".join(sorted(words, key=len, reverse=True))


_FREE = _either(set(_UNITS) - {*_AFTER_A_BLANK, *_BEHIND_A_STROKE})
_UNIT = re.compile(
  r"(?<=[\d})\]\s])\s?(?P<dimension>square\s|cubic\s|sq\.?\s|cu\.?\s)?"
  rf"(?P<unit>{_FREE}|(?<=\s)(?:{_either(_AFTER_A_BLANK)}))"
  r"\.?(?P<power>\s?\^\s?(?:[23]|\{\s?[23]\s?\})|\s(?:squared|cubed))?"
  rf"(?:\s?(?:/|\bper\b)\s?(?P<per>{_either(_UNITS)})\.?)?\s?\.?$",
  re.IGNORECASE,
)


def split(text: str) -> tuple[str, str]:
  """Returns `text` without the unit at its end, and the unit, "" if none.

  Args:
    text: an answer with one blank at most in a row.
  """
  match = _UNIT.search(text)
  if match is None:
    return text, ""
  unit = _UNITS[match["unit"].lower()]
  dimension = (match["dimension"] or match["power"] or "").lower()
  if "sq" in dimension or "2" in dimension:
    unit += "^2"
  elif dimension:
    unit += "^3"
  if match["per"]:
    unit += "/" + _UNITS[match["per"].lower()]
  return text[: match.start()].rstrip(), unit


def agree(a: str, b: str) -> bool:
  """Returns whether two units may stand behind one answer.

  Args:
    a: a unit as `split` gives it; "" agrees with every unit.
    b: another.
  """
  if not a or not b or a == b:
    return True
  (name, *power), (other, *other_power) = a.split("^"), b.split("^")
  lengths = {"unit", *_LENGTHS}
  return (
    "unit" in (name, other)
    and {name, other} <= lengths
    and power == other_power
  )
