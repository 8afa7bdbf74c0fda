"""Exact numbers such as 4√3, 12/5·√11, ∛2 and 25π, read from text.

A reward runs on text that a policy optimizes against, so nothing here hands
it to an evaluator: a recursive-descent parser over a fixed alphabet computes
in Q(all real roots of primes)[π] with bounds on length, depth and digits. Two
values are equal exactly when their canonical forms are.
"""

import functools
import re
from fractions import Fraction

# Exponents of primes are multiples of 1/_PARTS, a multiple of 2 … 10: roots of
# every degree up to _MAX_DEGREE.
_PARTS = 5040
# √2·∛3 is ((2, 2520), (3, 1680)): primes ascending, 0 < exponent < _PARTS.
Root = tuple[tuple[int, int], ...]
# A number is Σ q·r·π^k over keys (r, k), no q zero. Products of roots of
# different primes are independent over Q (Besicovitch 1940), and π over all
# of them, so that this form is unique.
Number = dict[tuple[Root, int], Fraction]

_MAX_LENGTH = 200
_MAX_DEPTH = 16
_MAX_TERMS = 8
_MAX_BITS = 512
_MAX_EXPONENT = 64
_MAX_DEGREE = 10
_MAX_PRIMES = 16
_MAX_RADICAND = 10**8
_ONE: Number = {((), 0): Fraction(1)}
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
  braces, mixed numbers, \\frac, \\sqrt, \\sqrt[n], roots as powers and \\pi.

  Args:
    text: a normalized answer, ASCII, without blanks.
  """
  if len(text) > _MAX_LENGTH:
    return None
  try:
    return _Parser(text).parse()
  except Unreadable:
    return None


def write(value: Number) -> str:
  """Returns one text for each value, which `parse` reads as the same value.

  Args:
    value: as `parse` returns it.
  """
  text = ""
  for (root, k), q in sorted(value.items()):
    text += "-" if q < 0 else "+" if text else ""
    factors = [f"{p}^{{{Fraction(e, _PARTS)}}}" for p, e in root]
    if k:
      factors.append(f"\\pi^{{{k}}}")
    if abs(q) != 1 or not factors:
      whole = q.denominator == 1
      factors.insert(
        0,
        f"{abs(q.numerator)}"
        if whole
        else f"\\frac{{{abs(q.numerator)}}}{{{q.denominator}}}",
      )
    text += "*".join(factors)
  return text or "0"


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
      # "2 3", "2.5.5" and "{2}{3}", which shows as 23, are no products;
      # "2(3)" and "2√3" are.
      if not explicit and self._begins_with_digits():
        raise Unreadable(f"{following!r} was not expected")
      value = _multiply(value, self._factor())
    return value

  def _begins_with_digits(self) -> bool:
    ahead = self._at
    while ahead < len(self._tokens) and self._tokens[ahead][1] == "{":
      ahead += 1
    return ahead < len(self._tokens) and self._tokens[ahead][0] == "number"

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
    return _canonical({((), 0): whole + Fraction(numerator, denominator)})

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
      return _canonical({((), 0): _decimal(text)})
    if text in _CLOSING:
      value = self._expression()
      if not self._take(_CLOSING[text]):
        raise Unreadable(f"{_CLOSING[text]!r} is missing")
      return value
    if text == "frac":
      numerator = self._group()
      return _multiply(numerator, _inverse(self._group()))
    if text == "sqrt":
      degree = Fraction(2)
      if self._peek() == "[":
        degree = _rational(self._base())
      return _real_root(self._group(), degree)
    if text == "pi":
      return {((), 1): Fraction(1)}
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
  for (root, k), q in value.items():
    bits = max(q.numerator.bit_length(), q.denominator.bit_length())
    if bits > _MAX_BITS or len(root) > _MAX_PRIMES or abs(k) > _MAX_EXPONENT:
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
  for (root, k), q in a.items():
    for (other, m), r in b.items():
      whole, product = _reduced(root + other)
      key = (product, k + m)
      total[key] = total.get(key, Fraction(0)) + q * r * whole
  return _canonical(total)


@functools.lru_cache(maxsize=4096)
def _reduced(powers: Root) -> tuple[Fraction, Root]:
  """Returns Π p^(e/_PARTS) as a rational times a root; any order, any e."""
  exponents: dict[int, int] = {}
  for prime, exponent in powers:
    exponents[prime] = exponents.get(prime, 0) + exponent
  rational, root = Fraction(1), []
  for prime, exponent in sorted(exponents.items()):
    whole, rest = divmod(exponent, _PARTS)
    if abs(whole) > _MAX_BITS:
      raise Unreadable("too large")
    rational *= Fraction(prime) ** whole
    if rest:
      root.append((prime, rest))
  return rational, tuple(root)


def _inverse(a: Number) -> Number:
  """Returns 1/a, by multiplying with conjugates until one term is left."""
  if not a:
    raise Unreadable("division by zero")
  if len({k for _, k in a}) > 1:
    raise Unreadable("division by a sum with π")
  inverse, rest = _ONE, a
  while len(rest) > 1:
    # A prime that not all terms share alike.
    primes = {term for root, _ in rest for term in root}
    prime, exponent = max(
      p for p in primes if not all(p in root for root, _ in rest)
    )
    if any(e * 2 != _PARTS for p, e in primes if p == prime):
      raise Unreadable("division by a sum with a root that is not square")
    conjugate = {
      (root, k): -q if (prime, exponent) in root else q
      for (root, k), q in rest.items()
    }
    # rest = A + B√p, so rest·conjugate = A² − pB² has no √p; it is not zero,
    # because no sum of independent roots is.
    rest = _multiply(rest, conjugate)
    inverse = _multiply(inverse, conjugate)
  (((root, k), q),) = rest.items()
  rational, flipped = _reduced(tuple((p, -e) for p, e in root))
  return _multiply(inverse, {(flipped, -k): rational / q})


def _rational(a: Number) -> Fraction:
  if any(key != ((), 0) for key in a):
    raise Unreadable("an irrational exponent or degree")
  return a.get(((), 0), Fraction(0))


def _real_root(a: Number, degree: Fraction) -> Number:
  """Returns ᵈ√a as \\sqrt[d] means it: odd roots of negatives are real."""
  if degree.denominator != 1 or not 2 <= degree <= _MAX_DEGREE:
    raise Unreadable("a root of this degree")
  if degree % 2 and len(a) == 1 and min(a.values()) < 0:
    return _scale(_root(_scale(a, Fraction(-1)), int(degree)), Fraction(-1))
  return _root(a, int(degree))


def _root(a: Number, degree: int) -> Number:
  """Returns the positive root of a number of one term."""
  if not a:
    return {}
  if len(a) > 1:
    raise Unreadable("a root of a sum")
  (((root, k), q),) = a.items()
  if q < 0:
    raise Unreadable("a root of a negative number")
  if k % degree or _PARTS % degree or any(e % degree for _, e in root):
    raise Unreadable("a root of this degree")
  part = _PARTS // degree
  rational, found = _reduced(
    (
      *((p, e // degree) for p, e in root),
      *((p, n * part) for p, n in _factors(q.numerator)),
      *((p, -n * part) for p, n in _factors(q.denominator)),
    )
  )
  return _canonical({(found, k // degree): rational})


def _power(a: Number, exponent: Fraction) -> Number:
  if abs(exponent) > _MAX_EXPONENT or exponent.denominator > _MAX_DEGREE:
    raise Unreadable("an exponent out of range")
  if exponent.denominator > 1:
    a = _root(a, exponent.denominator)
  if exponent < 0:
    a = _inverse(a)
  result, left = _ONE, abs(exponent.numerator)
  while left:
    if left % 2:
      result = _multiply(result, a)
    left //= 2
    if left:
      a = _multiply(a, a)
  return result


@functools.lru_cache(maxsize=4096)
def _factors(n: int) -> tuple[tuple[int, int], ...]:
  """Returns the primes of n with how often each divides it."""
  if n > _MAX_RADICAND:
    raise Unreadable("a radicand too large to factor")
  found = []
  factor = 2
  while factor * factor <= n:
    times = 0
    while n % factor == 0:
      n //= factor
      times += 1
    if times:
      found.append((factor, times))
    factor += 1 if factor == 2 else 2
  if n > 1:
    found.append((n, 1))
  return tuple(found)
