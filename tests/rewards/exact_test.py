"""Exact surds against floating point, the laws of a field, and the bounds."""

import math
import time
from fractions import Fraction

import hypothesis
import pytest
from hypothesis import strategies as st

from jaxvlm.rewards import exact


def _float(value):
  return sum(
    float(q) * math.prod(p ** (e / exact._PARTS) for p, e in root) * math.pi**k
    for (root, k), q in value.items()
  )


def _surds(value):
  """Returns Σ q·√d·π^k as {(d, k): q}; only square roots."""
  assert all(2 * e == exact._PARTS for root, _ in value for _, e in root)
  return {
    (math.prod(p for p, _ in root), k): q for (root, k), q in value.items()
  }


def _pairs():
  """Strategy of (text, its value in floating point)."""
  leaf = st.one_of(
    st.integers(1, 30).map(lambda n: (str(n), float(n))),
    st.integers(1, 60).map(lambda n: (f"\\sqrt{{{n}}}", math.sqrt(n))),
    st.integers(10, 900).map(lambda n: (f"{n / 100:.2f}", n / 100)),
    st.just(("\\pi", math.pi)),
  )

  def grow(inner):
    two = st.tuples(inner, inner)
    return st.one_of(
      two.map(lambda p: (f"({p[0][0]}+{p[1][0]})", p[0][1] + p[1][1])),
      two.map(lambda p: (f"({p[0][0]}-{p[1][0]})", p[0][1] - p[1][1])),
      two.map(lambda p: (f"({p[0][0]})({p[1][0]})", p[0][1] * p[1][1])),
      two.map(lambda p: (f"{p[0][0]}*{p[1][0]}", p[0][1] * p[1][1])),
      inner.map(lambda p: (f"({p[0]})^{{2}}", p[1] ** 2)),
      st.tuples(inner, st.integers(1, 9)).map(
        lambda p: (f"\\frac{{{p[0][0]}}}{{{p[1]}}}", p[0][1] / p[1])
      ),
    )

  return st.recursive(leaf, grow, max_leaves=5)


@hypothesis.given(_pairs())
@hypothesis.settings(max_examples=200, deadline=None)
def test_values_agree_with_floating_point(pair):
  text, expected = pair
  value = exact.parse(text)
  hypothesis.assume(value is not None)  # over a bound
  assert _float(value) == pytest.approx(expected, rel=1e-9, abs=1e-7)


@hypothesis.given(_pairs(), _pairs())
@hypothesis.settings(max_examples=100, deadline=None)
def test_field_laws_hold_in_the_canonical_form(a, b):
  (a, _), (b, _) = a, b
  difference = exact.parse(f"({a})-({b})")
  hypothesis.assume(difference is not None)
  assert (difference == {}) == (exact.parse(a) == exact.parse(b))
  assert exact.parse(f"({a})+({b})") == exact.parse(f"({b})+({a})")
  left = exact.parse(f"(({a})+({b}))*(({a})-({b}))")
  right = exact.parse(f"({a})^2-({b})^2")
  hypothesis.assume(left is not None and right is not None)
  assert left == right


@hypothesis.given(
  st.lists(
    st.tuples(st.integers(-5, 5), st.sampled_from([1, 2, 3, 5, 6, 10, 15])),
    min_size=1,
    max_size=4,
  )
)
@hypothesis.settings(deadline=None)
def test_division_inverts_any_sum_of_roots(terms):
  text = "+".join(f"({q})*\\sqrt{{{d}}}" for q, d in terms)
  value = exact.parse(text)
  inverse = exact.parse(f"1/({text})")
  if value == {}:
    assert inverse is None
  else:
    assert exact.parse(f"({text})*(1/({text}))") == exact._ONE


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("26^0.5", {(26, 0): Fraction(1)}),
    ("{26^0.5}/26", {(26, 0): Fraction(1, 26)}),
    (r"\sqrt{297}", {(33, 0): Fraction(3)}),
    (r"\sqrt{\frac{1}{2}}", {(2, 0): Fraction(1, 2)}),
    (r"3\frac{1}{2}", {(1, 0): Fraction(7, 2)}),
    (r"-3\frac{1}{2}", {(1, 0): Fraction(-7, 2)}),
    (r"\frac{12}{5}\sqrt{11}", {(11, 0): Fraction(12, 5)}),
    (r"2\frac{\sqrt{3}}{2}", {(3, 0): Fraction(1)}),
    (r"25\pi", {(1, 1): Fraction(25)}),
    (r"\frac{\pi}{\pi}", {(1, 0): Fraction(1)}),
    (r"2\frac{15}{2}", {(1, 0): Fraction(15)}),  # no mixed number
    ("2^-1", {(1, 0): Fraction(1, 2)}),
    ("-2^2", {(1, 0): Fraction(-4)}),
    ("10-4-3", {(1, 0): Fraction(3)}),
    ("8/4/2", {(1, 0): Fraction(1)}),
    (r"2\cdot3\times4\div6", {(1, 0): Fraction(4)}),
    (r"\sqrt{0}", {}),
    ("0", {}),
  ],
)
def test_known_values(text, expected):
  assert _surds(exact.parse(text)) == expected


@pytest.mark.parametrize(
  ("text", "same"),
  [
    (r"\sqrt[3]{8}", "2"),
    (r"\sqrt[3]{-8}", "-2"),
    (r"\sqrt[3]{5}", "5^{1/3}"),
    (r"\sqrt[4]{9}", r"\sqrt{3}"),
    (r"\sqrt[6]{27}", r"\sqrt{3}"),
    (r"\sqrt[3]{16}", r"2\sqrt[3]{2}"),
    (r"\frac{1}{\sqrt[3]{2}}", r"\frac{\sqrt[3]{4}}{2}"),
    (r"\sqrt{\sqrt{2}}", r"\sqrt[4]{2}"),
    (r"\sqrt[3]{\sqrt{64}}", "2"),
    (r"\sqrt[3]{2}\sqrt{2}", r"\sqrt[6]{32}"),
    (r"\sqrt{\pi^2}", r"\pi"),
    (r"\sqrt[3]{\frac{8}{27}}", "2/3"),
    ("8^{2/3}", "4"),
    ("4^{-0.5}", "0.5"),
    (r"\frac{1}{\sqrt[4]{2}(1+\sqrt{3})}", r"\frac{\sqrt{3}-1}{2\sqrt[4]{2}}"),
  ],
)
def test_roots_of_any_degree(text, same):
  value = exact.parse(text)
  assert value is not None and value == exact.parse(same)


def _real(text):
  """Strategy-free reference: `text` in floating point, by Python's own math."""
  return math.prod(n ** (1 / d) for n, d in text)


@hypothesis.given(
  st.lists(
    st.tuples(st.integers(1, 200), st.integers(2, 10)), min_size=1, max_size=4
  ),
  st.lists(
    st.tuples(st.integers(1, 200), st.integers(2, 10)), min_size=1, max_size=4
  ),
)
@hypothesis.settings(max_examples=100, deadline=None)
def test_products_of_roots_agree_with_floating_point(above, below):
  over, under = (
    "".join(f"\\sqrt[{d}]{{{n}}}" for n, d in roots) for roots in (above, below)
  )
  value = exact.parse(f"\\frac{{{over}}}{{{under}}}")
  expected = _real(above) / _real(below)
  assert _float(value) == pytest.approx(expected, rel=1e-9)


@hypothesis.given(_pairs())
@hypothesis.settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_as_the_same(pair):
  value = exact.parse(pair[0])
  hypothesis.assume(value is not None)
  text = exact.write(value)
  hypothesis.assume(len(text) <= 200)
  assert exact.parse(text) == value
  assert exact.write(exact.parse(text)) == text


@pytest.mark.parametrize(
  "text",
  [
    "", "+", "1+", "(1", "1)", "x", "2x", "1..2", "1 2", "{1}{2}",
    "1{2}", "2{{3}}", "2.5.5", "1/0",
    r"\frac{1}{0}", r"\frac{1}", r"\sqrt", r"\sqrt{-1}", r"\sqrt{1+\sqrt{2}}",
    r"\sqrt[1]{8}", r"\sqrt[11]{8}", r"\sqrt[0]{8}", r"\sqrt[-2]{4}",
    r"\sqrt[3]8", r"\sqrt[4]{-16}", r"\sqrt[2.5]{4}", r"\sqrt[\pi]{4}",
    "(-8)^{1/3}", r"\sqrt{\pi}", r"1/(\sqrt[3]{2}+1)",
    "2^{0.03}", "2^3^2", r"2^{\pi}", "1e5", "1_000", "٣", "１２",
    "0x10", "__import__('os')", "7:15", "(2,3)", r"\frac{1}{1+\pi}", "2**3",
    r"\picdot", "1;2",
  ],
)  # fmt: skip
def test_what_is_no_number(text):
  assert exact.parse(text) is None


@pytest.mark.parametrize(
  "text",
  [
    "9^9^9^9",
    "1^{999999999999}",
    "(0.5+0.5)^{-99999999}",
    r"\sqrt{1000000000000000003}",
    "(1+2^.1+2^.2+2^.3)^63" * 8,
    "".join(f"\\sqrt{{{n}}}" for n in range(99999800, 99999999, 17)),
    r"1/(1+\sqrt{99999989}\sqrt{99999971})",
    r"1/(1+\sqrt{99999989}\sqrt{99999971}\sqrt{2})",
    "(" * 200,
    "-(" * 100,
    "9^{9^{9}}",
    "((((9^64)^64)^64)^64)^64",
    "9" * 199,
    "0." + "3" * 190,
    r"\sqrt{99999989}" * 12,
    r"\sqrt{" * 30 + "2" + "}" * 30,
    "(" * 100 + "1" + ")" * 100,
    "{" * 100 + "1" + "}" * 100,
    "/".join(f"(√{d}+1)".replace("√", "2^0.5*3^0.5*") for d in range(2, 9)),
    "1/(2^.5+3^.5+5^.5+7^.5)" * 8,
    "1/(2^.5+3^.5+5^.5+7^.5+11^.5+13^.5+17^.5)",
    "(1+2^.5+3^.5+5^.5+7^.5)^64",
    r"1/(1+\sqrt{99999989}+\sqrt{99999971})" * 4,
    "-" * 200,
    "1+" * 100,
    "1/" * 99 + "3",
  ],
)
def test_bombs_end_quickly(text):
  exact._factors.cache_clear()
  start = time.process_time()
  exact.parse(text[:200])
  assert time.process_time() - start < 1.0


def test_depth_is_bounded():
  assert exact.parse("(" * 15 + "1" + ")" * 15) == exact._ONE
  assert exact.parse("(" * 16 + "1" + ")" * 16) is None
  # Each nested argument is a level too.
  assert exact.parse(r"\frac{1}{" * 16 + "2" + "}" * 16) is None


def test_text_that_is_too_long_is_not_read():
  assert exact.parse("1" + "+1" * 99) == {((), 0): Fraction(100)}
  assert exact.parse("1" + "+1" * 100) is None


@hypothesis.given(
  st.text(alphabet="0123456789.+-*/^(){}[]", max_size=60)
  | st.lists(
    st.sampled_from(
      ["\\frac", "\\sqrt", "{", "}", "(", ")", "2", "3", "9", "^", "/", "\\pi"]
    ),
    max_size=60,
  ).map("".join)
)
@hypothesis.settings(max_examples=400, deadline=None)
def test_any_text_is_read_or_refused_in_time(text):
  start = time.process_time()
  value = exact.parse(text)
  assert time.process_time() - start < 1.0
  assert value is None or all(q for q in value.values())
