"""Grading: a table of cases, every Geometry3K answer, and bombs."""

import time

import hypothesis
import pytest
from hypothesis import strategies as st

from jaxvlm.rewards import canonical, geometry3k_reward, grade
from tests.data import pack

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
  (r"\angle 3 = 52^\circ", "52"),
  (r"m\angle 3=52", "52"),
  ("∠3 = 52°", "52"),
  (r"m(\angle 3) = 52", "52"),
  (r"\text{m}\angle{RST} = 52", "52"),
  (r"\overarc{RS} = 52^\circ", "52"),
  (r"m\overset{\frown}{RS} = 52", "52"),
  (r"m \widehat{RST} = 52", "52"),
  ("mRST = 52", "52"),
  (r"\sin R = \frac{3}{5}", r"\frac{3}{5}"),
  (r"\theta = 52", "52"),
  ("θ=52", "52"),
  ("x_1 = 7", "7"),
  ("RS = TU = 7", "7"),
  (r"\text{Area} = 7", "7"),
  (r"\text{The area of } \triangle RST = 7\text{ cm}^2", "7"),
  (r"A_{\text{shaded}} = 7\pi", r"7\pi"),
  ("= 7", "7"),
  # The same unit in another spelling, or only on one side.
  ("7 centimetres", "7 cm"),
  (r"7\,\mathrm{cm}", "7 cm"),
  ("7", "7 cm"),
  ("7 cm", "7"),
  (r"7\text{ cm}^2", "7 square centimeters"),
  ("7 sq. ft.", r"7\text{ ft}^{2}"),
  ("7 feet squared", "7 ft²"),
  ("7 units", "7 cm"),
  ("7 square units", "7 cm^2"),
  ("7 miles per hour", "7 mi/h"),
  ("7 m/s", "7 meters per second"),
  ("52°", "52 degrees"),
  ("7 percent", r"7\%"),
  # Parentheses, boxes and braces around the whole.
  ("(7)", "7"),
  ("[7]", "7"),
  ("((7))", "7"),
  (r"\left(-7\right)", "-7"),
  ("(D)", "D"),
  (r"\mathrm{(D)}", "D"),
  (r"\textbf{D}", "(D)"),
  ("(x = 7)", "7"),
  ("(7 cm)", "7"),
  ("(52)^\\circ", "52"),
  ("7{}", "7"),
  ("52{}^\\circ", "52"),
  ("{}7", "7"),
  ("7\\ ", "7"),
  ("7\\\\", "7"),
  (r"\text{7\sqrt{5}}", r"7\sqrt{5}"),
  (r"\mathbf{\frac{7}{\text{5}}}", r"\frac{7}{5}"),
  (r"\fbox{7}", "7"),
  (r"\boxed{7}", "7"),
  ("((1, 2))", "(1,2)"),
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
  # Other roots.
  (r"3\sqrt[3]{2}", r"\sqrt[3]{54}"),
  ("∛54", r"3\sqrt[3]{2}"),
  ("54^{1/3}", r"3\sqrt[3]{2}"),
  (r"\sqrt[4]{25}", r"\sqrt{5}"),
  (r"\sqrt[3]9", "∛9"),
  # A simpler form of an answer that is not simple.
  ("2", r"\sqrt[3]{8}"),
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
  # No names, or more than a name.
  (r"\angle 2 = 61", "60"),
  ("2 = 60", "60"),
  ("not = 60", "60"),
  ("no = 60", "60"),
  (r"\not= 60", "60"),
  (r"x \ne 60", "60"),
  ("x ≠ 60", "60"),
  ("x != 60", "60"),
  ("x == 60", "60"),
  ("x > 60", "60"),
  (r"x \ge 60", "60"),
  ("x = 60 = 61", "60"),
  ("x = 60 or x = 70", "60"),
  ("60 or 70", "60"),
  (r"\pm 60", "60"),
  (r"\approx 60", "60"),
  (r"x \approx 60", "60"),
  ("7", "x = 60"),
  # Brackets that hold more than one answer, or none.
  ("(60, 3)", "60"),
  ("(60", "60"),
  ("60)", "60"),
  ("(60]", "60"),
  ("[0, 60]", "60"),
  ("(0; 60)", "60"),
  ("60, (60)", "60"),
  ("(6)(0)", "60"),
  ("6{}0", "60"),
  ("6°0", "60"),
  (r"\text{60", "60"),
  ("()", "60"),
  ("({})", "60"),
  ("(B)", "A"),
  ("(60)", "(60, 60)"),
  (r"\{1, 2\}", r"\{2, 1\}"),
  # Another unit.
  ("7 m", "7 cm"),
  ("7 cm^2", "7 cm"),
  ("7 cm", "7 cm^2"),
  ("7 cm^3", "7 square cm"),
  ("7 units", "7 cm^2"),
  ("7 units", "7 minutes"),
  ("7 mi/h", "7 mi"),
  ("7 km/h", "7 m/h"),
  ("52 cm", "52°"),
  (r"52\%", r"52^\circ"),
  ("700 cm", "7 m"),
  ("7 radians", "7"),
  # Roots.
  (r"\sqrt[3]{9}", r"\sqrt{9}"),
  (r"\sqrt[3]{9}", r"\sqrt[4]{9}"),
  (r"\sqrt[3]{216000}", "60"),
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


# Answers of one class in many spellings; classes are told apart.
_CLASSES = [
  [
    "7",
    "7.0",
    "7°",
    "x = 7",
    r"\frac{14}{2}",
    "(7)",
    "7 cm",
    "7 m",
    "+7",
    "07",
  ],
  ["0.5", ".5", "1/2", r"\frac12", r"\frac{2}{4}", r"2^{-1}"],
  [r"7\sqrt{3}", "7√3", r"\sqrt{147}", r"\frac{21}{\sqrt{3}}"],
  [r"\sqrt[3]{16}", "2∛2"],
  [r"7\pi", "7π", r"\frac{14\pi}{2}"],
  ["(1, 2)", "(1.0,2)", r"\left(\frac{2}{2}, 2\right)"],
  ["[1, 2]"],
  ["(2, 1)"],
  ["D", "(d)", r"\text{(D)}"],
  ["x+1"],
  ["-7", "−7"],
  ["", "$$", "()", "{}"],
  ["0", "0.0", "-0", "7-7"],
]


def test_canonical_makes_the_classes():
  texts = [{canonical(answer) for answer in c} for c in _CLASSES]
  assert [len(found) for found in texts] == [1] * len(_CLASSES)
  assert len(set.union(*texts)) == len(_CLASSES)


@pytest.mark.parametrize(("prediction", "answer"), _RIGHT)
def test_what_is_graded_right_is_of_one_class(prediction, answer):
  assert canonical(prediction) == canonical(answer)


_PIECES = [
  *"0123456789.,/^+-=x°√π$%()[]{}",
  "\\frac{1}{2}", "\\sqrt{3}", "\\sqrt[3]{2}", " cm", " m^2", "m\\angle ",
  "\\text{", "7", "12", "\\ ", " ",
]  # fmt: skip
_TEXTS = st.lists(st.sampled_from(_PIECES), max_size=7).map("".join)


@pytest.mark.parametrize("text", ["++", "+(x)", "√8 7", "√12%6-", ".√5\\ 1"])
def test_one_text_is_the_text_of_itself(text):
  assert canonical(canonical(text)) == canonical(text)


@hypothesis.given(st.lists(_TEXTS, min_size=2, max_size=6))
@hypothesis.settings(max_examples=200, deadline=None)
def test_classes_of_any_text(texts):
  for a in texts:
    assert canonical(canonical(a)) == canonical(a)
    for b in texts:
      if grade(a, b):
        assert canonical(a) == canonical(b)


@hypothesis.given(st.text(max_size=40) | _TEXTS, st.text(max_size=40) | _TEXTS)
@hypothesis.settings(max_examples=200, deadline=None)
def test_a_reward_is_always_a_finite_number(response, answer):
  hypothesis.assume(answer.strip())
  for text in (response, f"<think></think>\\boxed{{{response}}}"):
    rewards = geometry3k_reward(text, answer)
    assert set(rewards) == {"overall", "accuracy", "format"}
    for value in rewards.values():
      assert type(value) is float and 0 <= value <= 1


def test_every_geometry3k_answer_in_all_its_forms():
  seen = set()
  for record in pack.geometry3k_answers():
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
  for record in pack.geometry3k_answers():
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
  start = time.process_time()
  assert not grade(bomb, answer)
  # Measured: below 20 ms.
  assert time.process_time() - start < 1.0


def test_fractions_of_many_digits_compare():
  big = "\\frac{" + "1" * 40 + "}{" + "2" * 40 + "}"
  assert grade(r"\frac{1}{2}", big)
  assert not grade(big, r"\frac{1}{2}")
