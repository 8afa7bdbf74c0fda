"""Headroom formulas against enumeration of all 2^g reward groups."""

import fractions
import itertools
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxvlm.diagnostics import (
  degenerate_probability,
  expected_group_variance,
  headroom_threshold,
)


def _groups(p, g):
  """Yields (probability, rewards) of every group of g binary rewards."""
  for rewards in itertools.product([0, 1], repeat=g):
    right = sum(rewards)
    yield p**right * (1 - p) ** (g - right), np.array(rewards)


@hypothesis.given(st.floats(0, 1), st.integers(1, 7))
@hypothesis.settings(max_examples=40, deadline=None)
def test_against_enumeration(p, g):
  degenerate = sum(w for w, r in _groups(p, g) if len(set(r.tolist())) == 1)
  variance = sum(w * np.var(r) for w, r in _groups(p, g))  # divisor g
  np.testing.assert_allclose(
    degenerate_probability(p, g), degenerate, rtol=1e-9
  )
  np.testing.assert_allclose(
    expected_group_variance(p, g), variance, rtol=1e-9, atol=1e-12
  )


@pytest.mark.parametrize(("p", "g"), [(0.02, 8), (0.3, 4), (0.9, 16)])
def test_against_groups_that_were_drawn(p, g):
  drawn = np.random.default_rng(0).random((40_000, g)) < p
  variances, degenerate = drawn.var(1), drawn.all(1) | ~drawn.any(1)
  for values, expected in (
    (variances, expected_group_variance(p, g)),
    (degenerate, degenerate_probability(p, g)),
  ):
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - expected) < 3 * error


@pytest.mark.parametrize(
  ("g", "expected"),
  [(4, 0.15937), (5, 0.12946), (8, 0.08300), (16, 0.04240), (32, 0.02143)],
)
def test_published_thresholds(g, expected):
  np.testing.assert_allclose(headroom_threshold(g), expected, atol=6e-6)


def test_published_variances():
  # arXiv 2606.18487, appendix A.3, and p = .020 at g = 8.
  for g, expected in ((4, 0.100), (8, 0.067), (16, 0.038), (32, 0.020)):
    variance = expected_group_variance(headroom_threshold(g), g)
    np.testing.assert_allclose(variance, expected, atol=6e-4)
  np.testing.assert_allclose(
    expected_group_variance(0.020, 8), 0.01715, atol=1e-5
  )
  np.testing.assert_allclose(degenerate_probability(0.020, 8), 0.851, atol=5e-4)


def test_closed_forms():
  # g = 3: 1 − 3p + 3p² = 1/2.
  assert headroom_threshold(2) == 0.5
  np.testing.assert_allclose(
    headroom_threshold(3), (3 - math.sqrt(3)) / 6, rtol=1e-15
  )


@pytest.mark.parametrize("g", [3, 4, 5, 8, 16, 64, 257])
def test_root_is_exact_to_rounding(g):
  root = headroom_threshold(g)

  def excess(p):
    p = fractions.Fraction(p)
    return p**g + (1 - p) ** g - fractions.Fraction(1, 2)

  # Exact rational arithmetic on both sides of the root.
  assert excess(root * (1 - 2e-15)) > 0 > excess(root * (1 + 2e-15))
  assert 0 < root < 0.5


def test_large_groups_approach_ln2_over_g():
  np.testing.assert_allclose(
    headroom_threshold(10**9) * 10**9, math.log(2), rtol=1e-8
  )
  # The approximation is not the answer at the sizes in use.
  assert abs(headroom_threshold(8) - math.log(2) / 8) > 0.003


def test_arrays_and_extremes():
  p = np.array([[0.0, 0.5, 1.0]])
  np.testing.assert_array_equal(
    degenerate_probability(p, 4), [[1.0, 0.125, 1.0]]
  )
  np.testing.assert_array_equal(
    expected_group_variance(p, 4), [[0.0, 0.1875, 0.0]]
  )
  assert degenerate_probability(0.3, 1) == 1.0
  assert expected_group_variance(0.3, 1) == 0.0


@pytest.mark.parametrize("g", [1, 0, -3, 2.5, True])
def test_threshold_needs_a_group(g):
  with pytest.raises(ValueError, match="g: got"):
    headroom_threshold(g)


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan, [0.5, 2.0]])
def test_pass_rates_are_probabilities(p):
  with pytest.raises(ValueError, match="p: got"):
    degenerate_probability(p, 4)
  with pytest.raises(ValueError, match="p: got"):
    expected_group_variance(p, 4)
