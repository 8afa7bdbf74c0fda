"""Majorities and their calibration, against plain loops in float64."""

import numpy as np
import pytest

from jaxvlm.eval import result
from jaxvlm.eval.harness import Evaluation
from jaxvlm.eval.votes import vote


def evaluation(answers, accuracy):
  shape = np.shape(accuracy)
  return Evaluation(
    name="toy",
    scores={"accuracy": np.array(accuracy, np.float32)},
    lengths=np.full(shape, 3, np.int32),
    finished=np.ones(shape, bool),
    entropies=np.full(shape, 0.5, np.float32),
    neg_logprobs=np.full(shape, 0.5, np.float32),
    answers=tuple(map(tuple, answers)),
  )


def test_the_most_frequent_answer_whatever_its_spelling():
  found = vote(
    evaluation(
      [
        ["1/2", "3", "0.5", "3", "\\frac{1}{2}"],
        ["", "", "", "", "7"],
        ["", "", "", "", ""],
        ["5", "4", "4", "5", "1"],
      ],
      [
        [1, 0, 1, 0, 1],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0],
      ],
    )
  )
  # Of two as frequent the first drawn; no answer is no vote.
  assert found.answers == ("1/2", "7", "", "5")
  np.testing.assert_allclose(found.confidence, [0.6, 0.2, 0, 0.4])
  assert found.correct.tolist() == [True, True, False, False]
  np.testing.assert_allclose(found.brier, [0.16, 0.64, 0, 0.16])


@pytest.mark.parametrize("seed", range(3))
def test_ece_is_that_of_fifteen_bins(seed):
  rng = np.random.default_rng(seed)
  answers = rng.integers(0, 4, (200, 9)).astype(str)
  right = answers == "1"
  found = vote(evaluation(answers, right))
  expected = 0.0
  for k in range(15):
    inside = (found.confidence > k / 15) & (found.confidence <= (k + 1) / 15)
    if inside.any():
      gap = found.correct[inside].mean() - found.confidence[inside].mean()
      expected += inside.mean() * abs(gap)
  assert float(found.bins().error) == pytest.approx(expected, abs=1e-6)


def test_numbers_of_an_evaluation_and_how_two_differ():
  a = evaluation([["1", "1"], ["1", "2"]], [[1, 1], [1, 0]])
  b = evaluation([["2", "1"], ["2", "2"]], [[0, 1], [0, 0]])
  values, others = (result.per_problem(e, ("accuracy",)) for e in (a, b))
  np.testing.assert_allclose(values["accuracy"], [1, 0.5])
  np.testing.assert_allclose(values["pass@2"], [1, 1])
  np.testing.assert_allclose(values["majority vote"], [1, 1])
  np.testing.assert_allclose(values["distinct answers"], [1, 2])
  found = result.differences(values, others)
  assert found["accuracy"].mean == pytest.approx(0.5)
  assert found["accuracy"].low <= 0.5 <= found["accuracy"].high
  lines = "\n".join(result.in_lines(result.intervals(values)))
  assert "accuracy          0.750   [" in lines


def test_a_task_without_right_and_wrong_has_no_vote():
  e = evaluation([["a"]], [[0.0]])
  e = Evaluation(**{**vars(e), "scores": {"CIDEr": np.ones((1, 1))}})
  values = result.per_problem(e, ("CIDEr",))
  assert "majority vote" not in values and "CIDEr" in values
  assert result.calibration(e) == {}
