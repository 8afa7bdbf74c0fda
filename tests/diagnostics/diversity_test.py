"""Diversity of answers on lists that a reader can count."""

import hypothesis
import pytest
from hypothesis import strategies as st

from jaxvlm.diagnostics import distinct_answers, mode_share


def test_counts_by_hand():
  answers = [["1", "1", "2", "3"], ["5", "5", "5", "5"], [None, "7", None, "8"]]
  assert distinct_answers(answers) == (3 + 1 + 2) / 3
  assert mode_share(answers) == pytest.approx((2 / 4 + 1 + 1 / 4) / 3)


def test_samples_without_answer():
  assert distinct_answers([[None, None]]) == 0
  assert mode_share([[None, None]]) == 0


@hypothesis.given(
  st.lists(
    st.lists(st.sampled_from(["1", "2", "3"]), min_size=1, max_size=6),
    min_size=1,
    max_size=5,
  )
)
def test_properties(answers):
  distinct, share = distinct_answers(answers), mode_share(answers)
  longest = max(map(len, answers))
  assert 1 <= distinct <= longest
  assert 1 / 3 <= share <= 1
  if share == 1:
    assert distinct == 1
  shuffled = [samples[::-1] for samples in answers[::-1]]
  assert distinct_answers(shuffled) == pytest.approx(distinct)
  assert mode_share(shuffled) == pytest.approx(share)


@pytest.mark.parametrize("answers", [[], [["1"], []], ["12", "34"]])
def test_shape_errors(answers):
  for function in (distinct_answers, mode_share):
    with pytest.raises(ValueError, match="answers"):
      function(answers)
