"""Finding and spelling answers, in bounded time."""

import time

import hypothesis
import pytest
from hypothesis import strategies as st

from jaxvlm.rewards import answers, extract_boxed


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    (r"so \boxed{60}", "60"),
    (r"\boxed{6} then \boxed{8}", "8"),
    (r"\boxed{\frac{1}{2}} done }", r"\frac{1}{2}"),
    (r"\boxed{ 12 }", "12"),
    (r"\boxed{}", ""),
    (r"\boxed{\boxed{5}}", "5"),
    (r"\boxed {5}", "5"),
    (r"so \fbox{5}", "5"),
    (r"\boxed{5} and \fbox{6}", "5"),
    (r"\fbox{6} and \boxed{5", None),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    (r"\boxed{\}}", r"\}"),
    (r"$$\boxed{4\sqrt{3}}$$", r"4\sqrt{3}"),
    ("\\boxed{1\n2}", "1\n2"),
    (r"the answer is 60", None),
    (r"\boxed 60", None),
    (r"\boxed{60", None),
    (r"\boxed{7} and cut short \boxed{8", None),
    (r"\boxed{\frac{1}{2}", None),
    ("", None),
  ],
)
def test_last_box(text, expected):
  assert extract_boxed(text) == expected


def _braces(depth):
  return st.recursive(
    st.text(alphabet="ab \\", max_size=3).map(
      lambda s: s.replace("\\", "\\\\")
    ),
    lambda inner: st.lists(inner, max_size=3).map(
      lambda parts: "{" + "".join(parts) + "}"
    ),
    max_leaves=depth,
  )


@hypothesis.given(_braces(12), st.text(alphabet="ab{}\\", max_size=8))
def test_balanced_content_is_returned_whole(content, before):
  assert extract_boxed(f"{before} \\boxed{{{content}}}") == content.strip()


@pytest.mark.parametrize(
  "text",
  [
    "\\boxed{" * 4700,
    "\\boxed{" + "{" * 32_000,
    "\\boxed{" + "{" * 16_000 + "}" * 16_000,
    "\\boxed{" + "\\" * 32_000,
    "}" * 32_000 + "\\boxed{1}",
    "\\boxed{1}" * 3600,
    "\\boxed" + " " * 32_000,
    "\\fbox{" * 6000,
    "\\boxed{" + "{}" * 50_000,
  ],
)
def test_boxes_are_found_in_linear_time(text):
  start = time.process_time()
  extract_boxed(text)
  # Measured: below 10 ms; a quadratic scan takes seconds.
  assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("60°", "60"),
    (r"60^\circ", "60"),
    (r"60^{\circ}", "60"),
    (r"\frac{60^\circ}{7}", r"\frac{60}{7}"),
    (r"60\degree", "60"),
    (r"60\text{ degrees}", "60"),
    (r"50\%", "50"),
    ("$12$", "12"),
    (r"\(12\)", "12"),
    ("1,234", "1234"),
    ("1{,}234.5", "1234.5"),
    (r"1\,234", "1234"),
    (r"12,\!345", "12345"),
    ("(1,234)", "(1,234)"),
    (r"m\angle A = 60^\circ", "60"),
    ("m∠ABC=60", "60"),
    ("x=12", "12"),
    (r"\overline{AB} = 12", "12"),
    ("x = 3 = 3.0", "x=3=3.0"),
    ("12 cm", "12"),
    ("12cm", "12"),
    (r"12\text{ cm}^2", "12"),
    ("12 cm²", "12"),
    ("12 square inches", "12"),
    (r"12\sqrt{3}\,\mathrm{units}", r"12\sqrt{3}"),
    ("5 m", "5"),
    ("5m", "5m"),
    ("feet", "feet"),
    (r"\dfrac{1}{2}", r"\frac{1}{2}"),
    (r"\frac12", r"\frac{1}{2}"),
    (r"\frac 1 2", r"\frac{1}{2}"),
    (r"\frac1{23}", r"\frac{1}{23}"),
    (r"\frac{\sqrt3}2", r"\frac{\sqrt{3}}{2}"),
    ("1/2", r"\frac{1}{2}"),
    ("- 1 / 2", r"-\frac{1}{2}"),
    (r"\frac{-1}{2}", r"-\frac{1}{2}"),
    ("3 1/2", r"3\frac{1}{2}"),
    ("√3", r"\sqrt{3}"),
    ("4 √ 13", r"4\sqrt{13}"),
    ("sqrt(3)", r"\sqrt{3}"),
    ("sqrt(3+1)", "sqrt(3+1)"),
    ("25π", r"25\pi"),
    ("12.0", "12"),
    ("12.", "12"),
    (".5", "0.5"),
    ("-.5", "-0.5"),
    ("+5", "5"),
    ("−5", "-5"),
    ("{12}", "12"),
    ("{1}{2}", "{1}{2}"),
    ("12 34", "12 34"),
    ("7:15 PM", "7:15pm"),
    ("Yes", "yes"),
    (r"\left( 2, 3 \right)", "(2,3)"),
    ("", ""),
    ("$$", ""),
  ],
)
def test_spelling(text, expected):
  assert answers.normalize(text) == expected


@hypothesis.given(
  st.lists(
    st.sampled_from(
      list("0123456789 .,/^{}()+-=x°√π$%")
      + ["\\frac", "\\sqrt", "\\text{", "\\circ", "\\,", " cm", "m\\angle "]
    ),
    max_size=12,
  ).map("".join)
)
@hypothesis.settings(max_examples=300, deadline=None)
def test_normalizing_never_fails_and_is_quick(text):
  start = time.process_time()
  assert isinstance(answers.normalize(text), str)
  assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
  "unit",
  ["{", "}", " ", "\\text{", "\\frac", "1 ", "m ", "1,000", "\\,", "= ", "x=",
   "^{\\circ", "{}", "A ", "5 ", "5 cm ", "A_{", "5 per ", "x=(", "area of ",
   "\\angle ", "sq. ", "square ", "\u2003", "\\text{}", "()", "(", "- "],
)  # fmt: skip
@pytest.mark.parametrize("size", [300, 100_000])
def test_repetitions_do_not_backtrack(unit, size):
  text = (unit * size)[:size]
  start = time.process_time()
  answers.normalize("1" + text + "1")
  answers.normalize(text)
  # Measured: below 15 ms.
  assert time.process_time() - start < 0.5
