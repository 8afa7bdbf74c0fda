"""Two graders on one table: mathruler's verdicts, and what is right.

`grader_cases.jsonl` holds [prediction, answer, mathruler's verdict, right]. The
verdicts are what mathruler 0.1.0 with sympy 1.14 and pylatexenc 2.11 returned;
what is right was judged by hand: an integer must be written as one, a fraction
in lowest terms, nothing is rounded, and a unit counts where both sides state
one.
"""

import json
import pathlib
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from jaxvlm.rewards import easyr1_reward, final, geometry3k_reward, mathruler

CASES = [
  json.loads(line)
  for line in (pathlib.Path(__file__).parent / "grader_cases.jsonl")
  .read_text()
  .splitlines()
]
# Right answers that the default grader does not take. No wrong one is taken.
LIMITS = {
  # Names of points are no products.
  ("xy", "yx"),
  # A list without braces may be ordered.
  (r"\{1, 2\}", "1, 2"),
  # Ratios, words, markdown, unusual ways of writing.
  ("2:3", "2/3"),
  (r"\frac{2}{3}", "2:3"),
  ("2 million", "2000000"),
  ("2 million", "2*10^6"),
  ("The answer is 5", "5"),
  ("x = 5, y = 6", "(5, 6)"),
  ("5=x", "5"),
  (r"\triangle ABC", "ABC"),
  (r"\sqrt{3}2", r"2\sqrt{3}"),
  (r"\pi4", r"4\pi"),
  (r"60\circ", "60"),
  ("**5**", "5"),
  ("`5`", "5"),
}


def test_the_table_is_large_and_has_both_verdicts():
  assert len(CASES) >= 300
  assert len({(prediction, answer) for prediction, answer, *_ in CASES}) == len(
    CASES
  )
  assert {(m, r) for *_, m, r in CASES} == {
    (m, r) for m in (True, False) for r in (True, False)
  }


def test_mathrulers_verdict_on_every_case():
  wrong = [c for c in CASES if mathruler.grade(c[0], c[1]) != c[2]]
  assert not wrong


def test_the_default_is_right_on_all_but_its_limits():
  wrong = [c for c in CASES if final.same(c[0], c[1]) != c[3]]
  assert {(prediction, answer) for prediction, answer, *_ in wrong} == LIMITS
  assert all(right for *_, right in wrong)  # it never takes a wrong answer


def test_easyr1s_reward():
  assert easyr1_reward(r"<think>a</think> \boxed{1 / 2}", "0.5") == {
    "overall": 1.0,
    "format": 1.0,
    "accuracy": 1.0,
  }
  found = easyr1_reward(r"\boxed{60°} then \boxed{61}", "61")
  assert found == {"overall": 0.9, "format": 0.0, "accuracy": 1.0}
  # Where the two differ, each keeps its own verdict.
  boxed = r"<think>a</think> \boxed{m\angle A = 60°}"
  assert easyr1_reward(boxed, "60")["overall"] == 0.1
  assert geometry3k_reward(boxed, "60")["overall"] == 1.0
  assert easyr1_reward("<think></think>\\boxed{5", "5")["accuracy"] == 0
  assert easyr1_reward("nothing", "None")["accuracy"] == 1  # its quirk
  assert mathruler.boxed(r"\boxed{\frac{1}{2}} ") == r"\frac{1}{2}"
  with pytest.raises(ValueError, match="expected the right answer"):
    easyr1_reward("x", " ")


@pytest.mark.parametrize(
  "response, answer",
  [
    (r"\boxed{5}", "5"),
    (r"<think>\boxed{4}? No.</think> It is \boxed{5}.", "5"),
    (r"\boxed{\frac{1}{2}} = \boxed{0.5}", "0.5"),
    ("The answer is 5.", "5."),
    ("180 - 110 = 70\n\nAnswer: 70", "70"),
    ("70", "70"),
    (r"\boxed{5} or \boxed{6}", None),
    (r"\boxed{5} \boxed{", None),
    (r"\boxed{5", None),
    ("It is 70.\nOr 80.", None),
    ("<think>70</think>", None),
    ("", None),
  ],
)
def test_one_answer_or_none(response, answer):
  assert final.final_answer(response) == answer
  found = final.scores(response, "5" if answer is None else answer)
  right = float(answer is not None)
  assert found == {"accuracy": right, "answered": right, "reward": right}


@pytest.mark.parametrize(
  "offer",
  [
    "5 or 6",
    "5, 6",
    "5 and 6",
    "{5, 6}",
    "5; 6",
    "5 6",
    "5/6",
    r"\pm 5",
    "5=6",
  ],
)
def test_several_answers_earn_nothing(offer):
  for right in ("5", "6"):
    assert not final.same(offer, right)
    assert not final.scores(f"\\boxed{{{offer}}}", right)["reward"]


def test_unknowns():
  for given, right in (("2(x+1)", "2x+2"), ("b^2+2ab+a^2", "(a+b)^2")):
    assert final.same(given, right) and final.same(right, given)
  for given, right in (
    ("x+1", "x+2"),
    ("x", "y"),
    ("ABC", "CBA"),
    ("a-b", "b-a"),
    ("3x cm", "3x m"),
    ("right-angled", "angled-right"),
    ("x+y+z+w", "w+x+y+z"),  # more than three
  ):
    assert not final.same(given, right)
  # The points are drawn from the texts: none is a zero that one could write.
  zeros = "".join(f"(x-{n})" for n in range(100, 140))
  assert not final.same(f"x+{zeros}", "x+1-1")


def test_choices():
  for given in ("A. 60", "(A) 60", "A) 60", "Option A", r"\text{(A)}", "A: 60"):
    assert final.same(given, "A") and final.same(given, "(A) 60")
  for given in (
    "A or B",
    "A, B",
    "A. 60 B. 70",
    "(A)(B)",
    "AB",
    "B. 60",
    "A 60",
  ):
    assert not final.same(given, "A")
  assert not final.same("A. 61", "(A) 60") and final.same("60", "(A) 60")


_PIECES = st.sampled_from(
  "1 2 12 0.5 , . / ^ + - = ° √ π $ % ( ) [ ] { } \\{ \\} and or A (B) \\pi x y"
  " \\frac \\sqrt \\text{ \\boxed{ cm 1e5 \\times10^3 \\infty \\cup ~".split()
  + [" ", "\\\\", "\\ ", "\n"]
)
_TEXTS = st.lists(_PIECES, max_size=9).map("".join)


@hypothesis.given(_TEXTS | st.text(max_size=30), _TEXTS | st.text(max_size=30))
@hypothesis.settings(max_examples=300, deadline=None)
def test_any_text_has_a_verdict(prediction, answer):
  for verdict in (
    mathruler.grade(prediction, answer),
    final.same(prediction, answer),
  ):
    assert verdict in (True, False)
  assert mathruler.grade(prediction, prediction)
  final.scores(prediction, answer)


@pytest.mark.parametrize(
  "piece",
  [
    "9^",
    "{",
    "\\boxed{",
    "\\boxed{5}",
    "\\frac",
    "\\frac{",
    "\\sqrt",
    "(",
    "1,",
    " or ",
    "A. ",
    "\\text{",
    "1 000 ",
    "<think>",
    "answer is ",
  ],
)
def test_long_texts_take_no_time(piece):
  begin = time.process_time()
  for length in (290, 990, 32_000):
    text = piece * (length // len(piece))
    for answer in ("5", text[:290]):
      mathruler.grade(text, answer)
      final.same(text, answer)
      final.scores(text, answer)
      easyr1_reward(text, answer or "5")
  assert time.process_time() - begin < 1.0
