"""The Geometry3K reward: its four corners, and its import."""

import subprocess
import sys

import pytest

from jaxvlm.rewards import geometry3k_reward


@pytest.mark.parametrize(
  ("response", "overall", "accuracy", "formatted"),
  [
    ("<think>so</think> \\boxed{60^\\circ}", 1.0, 1.0, 1.0),
    ("so \\boxed{60}", 0.9, 1.0, 0.0),
    ("<think>so</think> \\boxed{61}", 0.1, 0.0, 1.0),
    ("<think>so</think> 60", 0.0, 0.0, 0.0),
    # The box in the thought is not in the place of the answer, but last.
    ("<think>so \\boxed{60}</think>", 0.9, 1.0, 0.0),
    # Cut short after a first box.
    ("<think>so</think> \\boxed{60} or \\boxed{6", 0.1, 0.0, 1.0),
    ("", 0.0, 0.0, 0.0),
    ("\\boxed{None}", 0.0, 0.0, 0.0),
  ],
)
def test_corners(response, overall, accuracy, formatted):
  reward = geometry3k_reward(response, "60")
  assert reward == {
    "overall": pytest.approx(overall),
    "format": formatted,
    "accuracy": accuracy,
  }
  assert all(type(value) is float for value in reward.values())


def test_a_missing_box_is_not_the_answer_none():
  assert geometry3k_reward("no box", "None")["accuracy"] == 0.0


@pytest.mark.parametrize("answer", ["", "  \n"])
def test_empty_answer_is_an_error(answer):
  with pytest.raises(ValueError, match="answer: got"):
    geometry3k_reward("<think>a</think>\\boxed{1}", answer)


def test_workers_start_without_heavy_packages():
  code = (
    "import sys; import jaxvlm.rewards;"
    "heavy = {'jax', 'numpy', 'sympy', 'flax'} & set(sys.modules);"
    "assert not heavy, heavy"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
