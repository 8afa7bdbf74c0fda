"""Evaluations: summed up, stored, and read again."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxvlm.eval.harness import Evaluation
from tests.eval.evaluations import ACCURACY, LENGTHS, example, stored


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_pass_at_k_is_the_mean_over_all_subsets(k):
  expected = [
    np.mean([any(s) for s in itertools.combinations(row, k)])
    for row in ACCURACY
  ]
  np.testing.assert_allclose(example().pass_at(k), expected)


def test_summary_by_hand():
  e = example()
  found = e.summary()
  tokens = LENGTHS.sum()
  expected = {
    "accuracy": 0.5,
    "pass@1": 0.5,
    "pass@2": (5 / 6 + 0 + 1) / 3,
    "pass@4": 2 / 3,
    "format": e.scores["format"].mean(),
    "reward": e.scores["reward"].mean(),
    "length": tokens / 12,
    "finished": e.finished.mean(),
    "entropy": (e.entropies * LENGTHS).sum() / tokens,
    "neg_logprob": (e.neg_logprobs * LENGTHS).sum() / tokens,
  }
  distinct = found.pop("distinct_answers")
  assert found == pytest.approx(expected)
  assert list(found) == list(expected)  # the order of the journal
  # An answer that was not given is no answer: {7, 8}, {}, {½}.
  assert distinct == pytest.approx((2 + 0 + 1) / 3)


def test_spellings_of_one_answer_are_one():
  e = example()
  rows = [
    ("60", "60.0", r"60^\circ", "60 degrees", "x = 60", r"\frac{120}{2}"),
    ("60", "61", "", "", "", ""),
    ("(A)", "a", r"\text{B}", "(1,2)", "(2,1)", "(1.0, 2)"),
  ]
  e = dataclasses.replace(e, answers=tuple(rows))
  np.testing.assert_array_equal(e.distinct_answers(), [1.0, 2.0, 4.0])


def test_entropy_of_a_problem_is_its_token_mean():
  e = example()
  expected = [
    sum(h * n for h, n in zip(row, lengths, strict=True)) / sum(lengths)
    for row, lengths in zip(e.entropies, LENGTHS, strict=True)
  ]
  np.testing.assert_allclose(e.entropy(), expected, rtol=1e-6)


def test_arrays_come_back_through_npz_without_pickle(tmp_path):
  e = example()
  np.savez(tmp_path / "e.npz", **e.to_arrays())
  with np.load(tmp_path / "e.npz", allow_pickle=False) as arrays:
    again = Evaluation.from_arrays(arrays)
  assert again.name == e.name and again.answers == e.answers
  for name in ("accuracy", "lengths", "finished", "entropies"):
    a, b = getattr(again, name), getattr(e, name)
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
  assert list(again.scores) == list(e.scores)
  assert again.summary() == e.summary()


def test_a_score_does_not_take_the_name_of_a_measurement():
  with pytest.raises(ValueError, match="in_domain: a score is called lengths"):
    dataclasses.replace(example(), scores={"reward": ACCURACY, "lengths": 1})


def test_one_long_answer_costs_its_own_length():
  short, long = example(), "x" * 100_000
  rows = [list(row) for row in short.answers]
  rows[1][2] = long
  e = dataclasses.replace(short, answers=tuple(map(tuple, rows)))
  assert stored(e).tell() < stored(short).tell() + len(long) + 100


TEXTS = st.text(st.characters() | st.sampled_from("\0\ud800½"), max_size=4)


@given(answers=st.lists(TEXTS, min_size=12, max_size=12))
def test_every_answer_comes_back_as_it_was(answers):
  rows = tuple(tuple(answers[i : i + 4]) for i in (0, 4, 8))
  e = dataclasses.replace(example(), answers=rows)
  with np.load(io.BytesIO(stored(e).getvalue()), allow_pickle=False) as arrays:
    assert Evaluation.from_arrays(arrays).answers == rows


def test_files_hold_what_they_held_when_results_were_written():
  assert example().to_arrays().keys() == {
    "name", "accuracy", "format", "reward", "lengths", "finished", "entropies",
    "neg_logprobs", "answers_utf8", "answers_ends",
  }  # fmt: skip


def test_files_with_one_array_of_strings_are_still_read():
  e = example()
  arrays = e.to_arrays()
  del arrays["answers_utf8"], arrays["answers_ends"]
  arrays["answers"] = np.array(e.answers, np.str_)
  again = Evaluation.from_arrays(arrays)
  assert again.answers == e.answers and again.summary() == e.summary()
