"""Grading: a table of cases, every Geometry3K answer, and bombs."""

import json
import pathlib
import time

import pytest

from jaxvlm.rewards import grade

_DATA = pathlib.Path(__file__).resolve().parents[2] / "../shared/data"

_RIGHT = [
  # As written.
  ("60", "60"),
  (" 60 ", "60"),
  ("$60$", "60"),
  ("60.", "60"),
  ("Yes", "yes"),
  ("7:15", "7:15"),
  ("7:15 PM", "7:15pm"),
  # Degrees, percent, units, names.
  ("60°", "60"),
  (r"60^\circ", "60"),
  (r"60^{\circ}", "60"),
  (r"60\text{ degrees}", "60"),
  ("60 degrees", "60"),
  (r"m\angle A = 60", "60"),
  (r"m\angle ABC = 60^\circ", "60"),
  ("x=12", "12"),
  ("x = 12", "12"),
  ("12 cm", "12"),
  (r"12\text{ cm}", "12"),
  (r"12 \mathrm{~cm}", "12"),
  ("24 square units", "24"),
  (r"24\text{ in}^2", "24"),
  ("50%", "50"),
  (r"50\%", "50"),
  (r"12\sqrt{3}\,\mathrm{units}", r"12\sqrt{3}"),
  # Integers and decimals.
  ("12.0", "12"),
  ("80", "80.0"),
  ("1,234", "1234"),
  (r"12{,}345.5", "12345.5"),
  ("12.50", "12.5"),
  (".92", "0.92"),
  ("-3", "−3"),
  ("007", "7"),
  ("+5", "5"),
  ("2^{3}", "8"),
  ("2^3", "8"),
  # Fractions.
  ("1/2", r"\frac{1}{2}"),
  (r"\dfrac{40}{3}", r"\frac{40}{3}"),
  (r"\frac 1 2", r"\frac{1}{2}"),
  (r"\frac12", "1/2"),
  (r"-\frac{1}{2}", r"\frac{-1}{2}"),
  ("0.5", r"\frac{1}{2}"),
  (r"\frac{25}{2}", "12.5"),
  ("3 1/2", r"\frac{7}{2}"),
  (r"3\frac{1}{2}", r"\frac{7}{2}"),
  (r"13\frac13", r"\frac{40}{3}"),
  # Surds and π.
  ("4√13", r"4\sqrt{13}"),
  (r"4 \sqrt { 13 }", r"4\sqrt{13}"),
  (r"4\sqrt13", r"4\sqrt{13}"),
  (r"4 \cdot \sqrt{13}", r"4\sqrt{13}"),
  ("4*sqrt(13)", r"4\sqrt{13}"),
  (r"\sqrt{208}", r"4\sqrt{13}"),
  (r"3\sqrt{33}", r"\sqrt{297}"),
  (r"\frac{1}{\sqrt{26}}", r"\frac{\sqrt{26}}{26}"),
  (r"\frac{12\sqrt{11}}{5}", r"\frac{12}{5}\sqrt{11}"),
  (r"2.4\sqrt{11}", r"\frac{12}{5}\sqrt{11}"),
  (r"\frac{2}{\sqrt{3}-1}", r"\sqrt{3}+1"),
  (r"25\pi", "25π"),
  (r"\pi \cdot 5^2", r"25\pi"),
  # A simpler form of an answer that is not simple.
  ("2", r"\frac{2}{1}"),
  ("4", r"\sqrt{16}"),
  (r"\frac{1}{2}", r"\frac{2}{4}"),
  # Tuples.
  ("(2, 3)", "(2,3)"),
  (r"\left(\frac{1}{2}, 3\right)", "(0.5, 3.0)"),
]

_WRONG = [
  (None, "60"),
  (None, "None"),
  ("", "60"),
  ("$$", "60"),
  ("61", "60"),
  ("-60", "60"),
  ("6 0", "60"),
  ("60 61", "60"),
  ("60, 61", "60"),
  ("the answer is 60", "60"),
  ("7:16", "7:15"),
  ("7.15", "7:15"),
  ("715", "7:15"),
  # An integer must be written as one.
  (r"\frac{120}{2}", "60"),
  (r"\sqrt{3600}", "60"),
  ("180-120", "60"),
  ("30+30", "60"),
  ("59.99999", "60"),
  ("60.4", "60"),
  ("52", "5²"),
  ("5²", "52"),
  # A fraction in lowest terms.
  (r"\frac{2}{4}", r"\frac{1}{2}"),
  ("80/6", r"\frac{40}{3}"),
  (r"\frac{1}{0}", r"\frac{1}{2}"),
  ("13.33", r"\frac{40}{3}"),
  ("13.333333", r"\frac{40}{3}"),
  # No rounding.
  ("12.49", "12.5"),
  ("0.923", "0.92"),
  (r"\frac{12}{13}", "0.92"),
  ("16.248", r"2\sqrt{66}"),
  ("16.25", r"2\sqrt{66}"),
  (r"4\sqrt{3}", r"4\sqrt{13}"),
  (r"\sqrt{52}", r"4\sqrt{13}"),
  (r"25\pi", "25"),
  ("78.54", r"25\pi"),
  (r"4\pi^2", r"4\pi"),
  ("(2,3)", "(3,2)"),
  ("(2,3)", "[2,3]"),
  ("(2,3)", "(2,3,4)"),
  ("2,3", "(2,3)"),
  ("x+1", "1+x"),
  ("٦٠", "60"),
  ("６０", "60"),
  ("NaN", "0"),
  ("inf", "1"),
  ("1e1", "10"),
]


@pytest.mark.parametrize(("prediction", "answer"), _RIGHT)
def test_right(prediction, answer):
  assert grade(prediction, answer)


@pytest.mark.parametrize(("prediction", "answer"), _WRONG)
def test_wrong(prediction, answer):
  assert not grade(prediction, answer)


def _records():
  folder = _DATA / "geometry3k"
  if not folder.exists():
    pytest.skip("shared data absent: ../shared/data/geometry3k")
  for split in ("train", "val"):
    for line in (folder / f"{split}.jsonl").read_text().splitlines():
      yield json.loads(line)


def test_every_geometry3k_answer_in_all_its_forms():
  seen = set()
  for record in _records():
    answer, kind = record["answer"], record["answer_kind"]
    seen.add(kind)
    assert grade(answer, answer), answer
    assert grade(f"${answer}$ units", answer), answer
    # `4*{3^0.5}` is how the source keeps 4√3.
    assert grade(record["answer_expr"], answer), answer
    # Six digits say an integer or a decimal, never a root; and a fraction
    # only if they are all of its digits.
    value = f"{record['answer_value']:.6f}"
    if kind in ("integer", "decimal"):
      assert grade(value, answer), answer
    elif kind == "surd":
      assert not grade(value, answer), answer
    else:
      numerator, denominator = answer[len("\\frac{") : -1].split("}{")
      whole = 10**6 * int(numerator) % int(denominator) == 0
      assert grade(value, answer) == whole, answer
    # The solver's own form is exact and ours reads it, where the answer is
    # exact too.
    if kind in ("surd", "fraction"):
      assert grade(record["answer_formalgeo"], answer), answer
  assert seen == {"integer", "decimal", "fraction", "surd"}


def test_different_geometry3k_answers_are_told_apart():
  values = {}
  for record in _records():
    values.setdefault(record["answer_value"], record["answer"])
  answers = list(values.values())
  for prediction in answers:
    assert [a for a in answers if grade(prediction, a)] == [prediction]


@pytest.mark.parametrize("answer", ["60", r"\frac{1}{2}", r"4\sqrt{3}", "2.5"])
@pytest.mark.parametrize(
  "bomb",
  [
    "9^9^9^9^9",
    "9^{9^{9^{9}}}",
    "(" * 100_000,
    "{" * 100_000 + "}" * 100_000,
    "9" * 100_000,
    "9" * 90 + "/" + "7" * 90,
    "\\frac{" + "9" * 140 + "}{" + "7" * 140 + "}",
    "\\frac{" + "9" * 5000 + "}{" + "7" * 5000 + "}",
    "1e999999999",
    "\\sqrt{" * 40 + "2" + "}" * 40,
    "\\frac{1}{" * 30 + "2" + "}" * 30,
    "٣" * 1000,
    "1" + "," * 1000 + "000",
    "1," * 90 + "1",
    "(" + "1," * 90 + "1)",
    "\\text{" * 1000,
    "\x00" * 1000,
    "__import__('os').system('true')",
  ],
)
def test_bombs_are_wrong_and_quick(bomb, answer):
  start = time.perf_counter()
  assert not grade(bomb, answer)
  # Measured: below 20 ms.
  assert time.perf_counter() - start < 1.0


def test_fractions_of_many_digits_compare():
  big = "\\frac{" + "1" * 40 + "}{" + "2" * 40 + "}"
  assert grade(r"\frac{1}{2}", big)
  assert not grade(big, r"\frac{1}{2}")
