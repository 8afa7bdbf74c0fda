"""pass@k against enumeration of every choice of k samples."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxvlm.diagnostics import pass_at_k


@st.composite
def _counts(draw, most=9):
  n = draw(st.integers(1, most))
  return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@hypothesis.given(_counts())
@hypothesis.settings(deadline=None)
def test_equals_the_share_of_subsets_with_a_right_sample(counts):
  n, c, k = counts
  samples = [True] * c + [False] * (n - c)
  subsets = list(itertools.combinations(samples, k))
  expected = sum(map(any, subsets)) / len(subsets)
  np.testing.assert_allclose(pass_at_k(n, c, k), expected, atol=1e-14)


def test_unbiased_where_the_plug_in_estimate_is_not():
  # E over Binomial(n, p) of the estimate is exactly 1 − (1−p)^k.
  n, k, p = 6, 3, 0.3
  c = np.arange(n + 1)
  binomial = np.array([1, 6, 15, 20, 15, 6, 1]) * p**c * (1 - p) ** (n - c)
  expected = 1 - (1 - p) ** k
  np.testing.assert_allclose(binomial @ pass_at_k(n, c, k), expected)
  assert abs(binomial @ (1 - (1 - c / n) ** k) - expected) > 0.05


@hypothesis.given(_counts(most=400))
@hypothesis.settings(deadline=None)
def test_properties(counts):
  n, c, k = counts
  value = pass_at_k(n, c, k)
  assert 0 <= value <= 1
  assert (value == 0) == (c == 0)
  assert (value == 1) == (n - c < k) or value == pytest.approx(1, abs=1e-9)
  np.testing.assert_allclose(pass_at_k(n, c, 1), c / n, atol=1e-12)
  assert pass_at_k(n, c, n) == (c > 0)
  if k < n:
    assert pass_at_k(n, c, k + 1) >= value
  if c < n:
    assert pass_at_k(n, c + 1, k) >= value


def test_arguments_broadcast():
  n, k = np.array([16, 8, 16]), np.array([[1], [4], [8]])
  c = np.array([4, 8, 0])
  values = pass_at_k(n, c, k)
  assert values.shape == (3, 3)
  assert values.dtype == np.float64
  for row, column in np.ndindex(3, 3):
    single = pass_at_k(n[column], c[column], k[row, 0])
    assert values[row, column] == single


def test_large_counts_do_not_overflow():
  # One right among 10⁵: pass@k is k/n.
  np.testing.assert_allclose(pass_at_k(100_000, 1, 1000), 0.01, rtol=1e-10)


@pytest.mark.parametrize(
  ("n", "c", "k", "named"),
  [
    (4, 5, 1, "c:"),
    (4, -1, 1, "c:"),
    (4, 1, 5, "k:"),
    (4, 1, 0, "k:"),
    (4.0, 1, 1, "n:"),
    (4, [True], 1, "c:"),
  ],
)
def test_errors_name_the_argument(n, c, k, named):
  with pytest.raises(ValueError, match=named):
    pass_at_k(n, c, k)
