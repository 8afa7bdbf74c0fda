"""Headroom per prompt: unbiased, against enumeration and drawn groups."""

import itertools

import numpy as np
import pytest
from scipy import stats

from jaxvlm.diagnostics import (
  degenerate_probability,
  expected_group_variance,
  group_for_share,
  headroom,
)
from jaxvlm.diagnostics.groups import binary, rate_intervals


def rewards_of(counts, n):
  return np.array([[1.0] * c + [0.0] * (n - c) for c in counts])


def test_groups_of_the_samples_themselves():
  """The estimate is the share of useful ones among all groups of g of n."""
  rewards = rewards_of([0, 1, 3, 5, 6], 6)
  for g in (2, 3, 6):
    shares, spreads = [], []
    for row in rewards:
      groups = [row[list(c)] for c in itertools.combinations(range(6), g)]
      shares.append(np.mean([np.ptp(group) > 0 for group in groups]))
      spreads.append(np.mean([np.var(group) for group in groups]))
    found = headroom(rewards, g)
    np.testing.assert_allclose(found.useful.mean, np.mean(shares), rtol=1e-12)
    np.testing.assert_allclose(found.variance.mean, np.mean(spreads))


def test_no_bias_over_draws_of_the_samples():
  rates, n, g = np.array([0.05, 0.3, 0.9]), 12, 4
  rng = np.random.default_rng(1)
  found = [headroom(rng.random((3, n)) < rates[:, None], g) for _ in range(60)]
  for values, expected in (
    ([h.useful.mean for h in found], 1 - degenerate_probability(rates, g)),
    ([h.variance.mean for h in found], expected_group_variance(rates, g)),
  ):
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values) - np.mean(expected)) < 3 * error


def test_the_mean_misleads():
  """Half at 0 and half at 1 teach nothing, though their mean is 1/2."""
  found = headroom(rewards_of([0, 16] * 10, 16), 8)
  assert found.pass_rate.mean == 0.5
  assert found.useful.mean == 0.0 and found.variance.mean == 0.0
  assert found.useful_at_mean == pytest.approx(1 - 2 / 2**8)
  assert found.variance_at_mean == pytest.approx(7 / 32)
  assert (found.below, found.above) == (0.5, 0.5)
  assert found.useful.high < 0.2  # exact: 20 prompts bound what is unseen
  even = headroom(rewards_of([8] * 20, 16), 8)
  assert even.useful.mean > 0.99 and (even.below, even.above) == (0, 0)


def test_intervals_of_rates_are_exact():
  counts = np.array([0, 1, 7, 16])
  low, high = rate_intervals(counts, 16)
  for c, a, b in zip(counts, low, high, strict=True):
    known = stats.binomtest(int(c), 16).proportion_ci(method="exact")
    np.testing.assert_allclose((a, b), (known.low, known.high), atol=1e-12)


def test_the_group_that_is_large_enough():
  rewards = rewards_of([2, 4, 8, 3, 5, 1] * 5, 32)
  found = group_for_share(rewards, 0.6)
  assert found.least <= found.size <= found.most
  at = [headroom(rewards, g).useful.mean for g in (found.size - 1, found.size)]
  assert at[0] < 0.6 <= at[1]
  # Prompts that are never solved need more than all samples.
  assert group_for_share(rewards_of([0] * 9 + [8], 16), 0.5) == (None,) * 3


def test_rewards_of_two_values():
  assert binary([[0, 2], [2, 2]]).tolist() == [[False, True], [True, True]]
  assert binary([[0, 0]]).sum() == 0 and binary([[2, 2]]).all()
  twice = headroom(2 * rewards_of([1, 3], 8), 4)
  once = headroom(rewards_of([1, 3], 8), 4)
  np.testing.assert_equal(twice._asdict(), once._asdict())


@pytest.mark.parametrize(
  ("rewards", "g", "said"),
  [
    ([[0.0, 0.1, 1.0]], 2, r"got 3 values \(0, 0.1, 1\), expected at most two"),
    ([[1.0]], 8, "one sample a prompt says nothing"),
    ([[0.0, 1.0]], 8, "2 samples a prompt say nothing.*at least 8"),
    ([0.0, 1.0], 2, r"got shape \(2,\)"),
    ([[0.0, np.nan]], 2, "expected at most two"),
    ([[0.0, 1.0]], 1, "group size of at least 2"),
  ],
)
def test_what_the_theory_cannot_say(rewards, g, said):
  with pytest.raises(ValueError, match=said):
    headroom(rewards, g)
  with pytest.raises(ValueError, match="one sample|share"):
    group_for_share([[1.0]], 0.5)
    group_for_share([[1.0, 0.0]], 1.5)
