"""The rule that chooses RL's learning rate, on rows of known shape."""

import pytest

from jaxvlm.study import stability


def row(rate: float, accuracy: list[float], *, seed=0, shuffled=False):
  steps = [10 * number for number in range(len(accuracy))]
  return {
    "seed": seed,
    "rate": rate,
    "shuffled": shuffled,
    "evaluated": steps,
    "accuracy": accuracy,
  }


def test_the_largest_rate_that_never_falls_is_chosen():
  rows = [
    row(4e-4, [0.6, 0.5, 0.5, 0.9, 0.9]),  # falls, though it ends highest
    row(2e-4, [0.6, 0.59, 0.62, 0.7, 0.7]),  # one dip, a mean above the entry
    row(1e-4, [0.6, 0.61, 0.62, 0.63, 0.64]),
  ]
  assert stability.chosen(rows) == 2e-4


def test_a_rate_that_falls_for_one_seed_is_out():
  rows = [
    row(2e-4, [0.6, 0.7, 0.7, 0.7, 0.7]),
    row(2e-4, [0.6, 0.5, 0.5, 0.7, 0.7], seed=1),
    row(1e-4, [0.6, 0.6, 0.6, 0.6, 0.6]),
  ]
  assert stability.chosen(rows) == 1e-4


def test_shuffled_runs_take_no_part():
  rows = [
    row(2e-4, [0.6, 0.6, 0.7, 0.7, 0.7]),
    row(2e-4, [0.6, 0.1, 0.0, 0.0, 0.0], shuffled=True),
  ]
  assert stability.chosen(rows) == 2e-4


def test_no_steady_rate_is_said():
  with pytest.raises(ValueError, match="at every rate; try lower"):
    stability.chosen([row(2e-4, [0.6, 0.5, 0.5, 0.5, 0.5])])
