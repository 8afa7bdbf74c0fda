"""Exact numbers such as 4√3, 12/5·√11 and 25π, read from text.

A reward runs on text that a policy optimizes against, so nothing here hands
it to an evaluator: a recursive-descent parser over a fixed alphabet computes
in Q(√2, √3, √5, …)[π] with bounds on length, depth and digits. Two values are
equal exactly when their canonical forms are.
"""

import functools
import math
import re
from fractions import Fraction

# A number is Σ q·√d·π^k over keys (d, k), d squarefree, no q zero. Square
# roots of distinct squarefree numbers are independent over Q, and π over all
# of them, so that this form is unique.
Number = dict[tuple[int, int], Fraction]

_MAX_LENGTH = 200
_MAX_DEPTH = 16
_MAX_TERMS = 16
_MAX_BITS = 512
_MAX_EXPONENT = 64
_MAX_RADICAND = 10**9
_ONE: Number = {(1, 0): Fraction(1)}
_TOKEN = re.compile(
  r"(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
  r"|(?P<name>\\?(?:frac|sqrt|pi|cdot|times|div))(?![a-z])"
  r"|(?P<symbol>[-+*/^(){}\[\]])"
)
_TIMES = ("*", "cdot", "times")
_DIVIDE = ("/", "div")
_CLOSING = {"(": ")", "{": "}", "[": "]"}


class Unreadable(ValueError):
  """The text is no number of this field, or it exceeds a bound."""


def parse(text: str) -> Number | None:
  """Returns the exact value of `text`, None if it has none here.

  Reads integers, decimals, + − * / ^, implicit products, parentheses and
  braces, mixed numbers, \\frac, \\sqrt and \\pi.

  Args:
    text: a normalized answer, ASCII, without blanks.
  """
  if len(text) > _MAX_LENGTH:
    return None
  try:
    return _Parser(text).parse()
  except Unreadable:
    return None


class _Parser:
  """expr = [±] term {± term}; term = factor {[* /] factor}; factor = base^n."""

  def __init__(self, text: str):
    self._tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
      match = _TOKEN.match(text, position)
      if match is None:
        raise Unreadable(f"{text[position : position + 8]!r} is no number")
      kind = str(match.lastgroup)
      self._tokens.append((kind, match[kind].lstrip("\\")))
      position = match.end()
    self._at = 0
    self._depth = 0

  def parse(self) -> Number:
    value = self._expression()
    if self._at < len(self._tokens):
      raise Unreadable(f"{self._peek()!r} was not expected")
    return value

  def _peek(self, ahead: int = 0) -> str:
    at = self._at + ahead
    return self._tokens[at][1] if at < len(self._tokens) else ""

  def _take(self, *expected: str) -> bool:
    """Consumes the next token if it is one of `expected`."""
    found = self._at < len(self._tokens) and self._peek() in expected
    self._at += found
    return found

  def _expression(self) -> Number:
    self._depth += 1
    if self._depth > _MAX_DEPTH:
      raise Unreadable("too deep")
    value = self._signed_term()
    while self._peek() in ("+", "-"):
      value = _add(value, self._signed_term())
    self._depth -= 1
    return value

  def _signed_term(self) -> Number:
    sign = -1 if self._take("-") else 1
    if sign == 1:
      self._take("+")
    return _scale(self._term(), Fraction(sign))

  def _term(self) -> Number:
    if (mixed := self._mixed_number()) is not None:
      value = mixed
    else:
      value = self._factor()
    while (following := self._peek()) not in ("", "+", "-", ")", "}", "]"):
      if self._take(*_DIVIDE):
        value = _multiply(value, _inverse(self._factor()))
        continue
      explicit = self._take(*_TIMES)
      # "2 3" and "2.5.5" are no products; "2(3)" and "2√3" are.
      if not explicit and self._tokens[self._at][0] == "number":
        raise Unreadable(f"{following!r} was not expected")
      value = _multiply(value, self._factor())
    return value

  def _mixed_number(self) -> Number | None:
    """Reads 3\\frac{1}{2} as 3 + 1/2, which a product never means there."""
    kinds = [kind for kind, _ in self._tokens[self._at : self._at + 8]]
    texts = [text for _, text in self._tokens[self._at : self._at + 8]]
    braces = ["frac", "{", "}", "{", "}"]
    if len(texts) < 8 or [texts[i] for i in (1, 2, 4, 5, 7)] != braces:
      return None
    digits = [texts[i] for i in (0, 3, 6)]
    if not all(kinds[i] == "number" for i in (0, 3, 6)) or "." in "".join(
      digits
    ):
      return None
    whole, numerator, denominator = map(int, digits)
    if not numerator < denominator:
      return None
    self._at += 8
    return _canonical({(1, 0): whole + Fraction(numerator, denominator)})

  def _factor(self) -> Number:
    value = self._base()
    if self._take("^"):
      value = _power(value, self._exponent())
      if self._peek() == "^":
        raise Unreadable("a tower of powers")
    return value

  def _exponent(self) -> Fraction:
    if self._peek() in ("-", "+"):
      sign = -1 if self._take("-") else 1
      self._take("+")
      return sign * _rational(self._base())
    return _rational(self._base())

  def _base(self) -> Number:
    if self._at >= len(self._tokens):
      raise Unreadable("an operand is missing")
    kind, text = self._tokens[self._at]
    self._at += 1
    if kind == "number":
      return _canonical({(1, 0): _decimal(text)})
    if text in _CLOSING:
      value = self._expression()
      if not self._take(_CLOSING[text]):
        raise Unreadable(f"{_CLOSING[text]!r} is missing")
      return value
    if text == "frac":
      numerator = self._group()
      return _multiply(numerator, _inverse(self._group()))
    if text == "sqrt":
      return _root(_rational(self._group()))
    if text == "pi":
      return {(1, 1): Fraction(1)}
    raise Unreadable(f"{text!r} was not expected")

  def _group(self) -> Number:
    if self._peek() not in ("{", "("):
      raise Unreadable("an argument is missing")
    return self._base()


def _decimal(text: str) -> Fraction:
  whole, _, digits = text.partition(".")
  return Fraction(int(whole + digits), 10 ** len(digits))


def _canonical(value: Number) -> Number:
  value = {key: q for key, q in value.items() if q}
  if len(value) > _MAX_TERMS:
    raise Unreadable("too many terms")
  for (d, k), q in value.items():
    bits = max(q.numerator.bit_length(), q.denominator.bit_length())
    if bits > _MAX_BITS or d.bit_length() > _MAX_BITS or abs(k) > _MAX_EXPONENT:
      raise Unreadable("too large")
  return value


def _add(a: Number, b: Number) -> Number:
  total = dict(a)
  for key, q in b.items():
    total[key] = total.get(key, Fraction(0)) + q
  return _canonical(total)


def _scale(a: Number, factor: Fraction) -> Number:
  return _canonical({key: q * factor for key, q in a.items()})


def _multiply(a: Number, b: Number) -> Number:
  total: Number = {}
  for (d, k), q in a.items():
    for (e, m), r in b.items():
      common = math.gcd(d, e)
      key = (d // common * (e // common), k + m)
      total[key] = total.get(key, Fraction(0)) + q * r * common
  return _canonical(total)


def _inverse(a: Number) -> Number:
  """Returns 1/a, by multiplying with conjugates until no root is left."""
  if not a:
    raise Unreadable("division by zero")
  powers = {k for _, k in a}
  if len(powers) > 1:
    raise Unreadable("division by a sum with π")
  inverse: Number = {(1, -powers.pop()): Fraction(1)}
  rest = {(d, 0): q for (d, _), q in a.items()}
  while any(d > 1 for d, _ in rest):
    prime = _smallest_prime(max(d for d, _ in rest))
    conjugate = {
      (d, k): -q if d % prime == 0 else q for (d, k), q in rest.items()
    }
    # rest = A + B√p, so rest·conjugate = A² − pB² has no √p; it is not zero,
    # because no sum of independent roots is.
    rest = _multiply(rest, conjugate)
    inverse = _multiply(inverse, conjugate)
  return _scale(inverse, 1 / rest[1, 0])


def _rational(a: Number) -> Fraction:
  if any(key != (1, 0) for key in a):
    raise Unreadable("a root of a root, or an irrational exponent")
  return a.get((1, 0), Fraction(0))


def _root(q: Fraction) -> Number:
  if q < 0:
    raise Unreadable("a root of a negative number")
  if not q:
    return {}
  # √(a/b) = √(ab)/b.
  square, free = _square_free(q.numerator * q.denominator)
  return _canonical({(free, 0): Fraction(square, q.denominator)})


def _power(a: Number, exponent: Fraction) -> Number:
  if exponent == Fraction(1, 2):
    return _root(_rational(a))
  if exponent.denominator != 1 or abs(exponent) > _MAX_EXPONENT:
    raise Unreadable("an exponent out of range")
  if exponent < 0:
    a = _inverse(a)
  result = _ONE
  for _ in range(abs(int(exponent))):
    result = _multiply(result, a)
  return result


@functools.lru_cache(maxsize=4096)
def _square_free(n: int) -> tuple[int, int]:
  """Returns (s, d) with n = s²·d and d squarefree."""
  if n > _MAX_RADICAND:
    raise Unreadable("a radicand too large to factor")
  square, free, factor = 1, 1, 2
  while factor * factor <= n:
    while n % (factor * factor) == 0:
      n //= factor * factor
      square *= factor
    if n % factor == 0:
      n //= factor
      free *= factor
    factor += 1
  return square, free * n


def _smallest_prime(n: int) -> int:
  """Returns the smallest prime factor of a squarefree n > 1."""
  if n > _MAX_RADICAND:
    raise Unreadable("a radicand too large to factor")
  factor = 2
  while factor * factor <= n:
    if n % factor == 0:
      return factor
    factor += 1
  return n
