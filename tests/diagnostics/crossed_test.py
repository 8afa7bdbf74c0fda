"""Intervals over problems and runs, against textbook cases and simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from jaxvlm.diagnostics import bootstrap_interval, crossed_intervals


def _half(intervals):
  return (intervals.high - intervals.low) / 2


def test_one_quantity_in_one_run_is_students_interval():
  x = np.random.default_rng(0).normal(size=17)
  found = crossed_intervals(x[None, :, None], confidence=0.9)
  low, high = stats.t.interval(0.9, 16, x.mean(), stats.sem(x))
  np.testing.assert_allclose(np.ravel(found), [x.mean(), low, high], rtol=1e-12)


def test_one_quantity_is_satterthwaites_interval_of_a_two_way_table():
  rng = np.random.default_rng(1)
  p, s = 12, 4
  x = rng.normal(size=(p, 1)) + 2 * rng.normal(size=(1, s))
  x = x + rng.normal(size=(p, s))
  rows, columns, mean = x.mean(1), x.mean(0), x.mean()
  ms_p = s * sum((r - mean) ** 2 for r in rows) / (p - 1)
  ms_r = p * sum((c - mean) ** 2 for c in columns) / (s - 1)
  ms_e = sum(
    (x[i, j] - rows[i] - columns[j] + mean) ** 2
    for i, j in itertools.product(range(p), range(s))
  ) / ((p - 1) * (s - 1))
  assert ms_r > ms_e
  total = ms_p + ms_r - ms_e
  freedom = total**2 / (
    ms_p**2 / (p - 1) + ms_r**2 / (s - 1) + ms_e**2 / ((p - 1) * (s - 1))
  )
  half = stats.t.ppf(0.975, freedom) * np.sqrt(total / (p * s))
  np.testing.assert_allclose(_half(crossed_intervals(x[None])), half)


def test_all_pairs_of_equal_policies_are_tukeys_intervals():
  # Many problems, one run: the studentized range of k policies.
  k, p = 5, 4000
  x = np.random.default_rng(2).normal(size=(k, p, 1))
  pairs = list(itertools.combinations(range(k), 2))
  d = np.stack([x[a] - x[b] for a, b in pairs])
  tukey = stats.studentized_range.ppf(0.95, k, np.inf) / np.sqrt(p)
  assert _half(crossed_intervals(d)).mean() == pytest.approx(tukey, rel=0.02)


def test_independent_quantities_are_sidaks_intervals():
  c, p = 4, 4000
  x = np.random.default_rng(3).normal(size=(c, p, 1))
  z = stats.norm.isf((1 - 0.95 ** (1 / c)) / 2) * stats.sem(x[..., 0], axis=1)
  np.testing.assert_allclose(_half(crossed_intervals(x)), z, rtol=0.02)


def test_the_same_quantity_twice_costs_nothing():
  x = np.random.default_rng(4).normal(size=(1, 300, 1))
  twice = _half(crossed_intervals(np.repeat(x, 2, axis=0)))
  once = float(_half(crossed_intervals(x))[0])
  np.testing.assert_allclose(twice, once, rtol=0.02)


def test_leading_axes_are_studies_of_their_own():
  x = np.random.default_rng(5).normal(size=(2, 3, 20, 4))
  both = crossed_intervals(x, draws=500)
  for i in range(2):
    np.testing.assert_allclose(
      np.stack(both)[:, i], np.stack(crossed_intervals(x[i], draws=500))
    )


def test_equal_scores_are_exact_with_bounds():
  x = np.zeros((1, 40, 3))
  low, high = (float(v[0]) for v in crossed_intervals(x, bounds=(0, 1))[1:])
  exact = bootstrap_interval(np.zeros(40), bounds=(0, 1))
  assert (low, high) == pytest.approx((exact.low, exact.high))
  third = np.full((1, 40, 3), 1 / 3)
  found = crossed_intervals(third, bounds=(-1, 1))
  assert found.low[0] < 0.3 and found.high[0] > 0.36
  np.testing.assert_allclose(_half(crossed_intervals(third)), 0, atol=1e-12)


def test_intervals_stay_within_the_bounds():
  x = np.ones((1, 10, 2))
  x[0, 0] = 0.0
  assert crossed_intervals(x, bounds=(0, 1)).high[0] == 1
  assert crossed_intervals(x).high[0] > 1


def test_one_problem_says_nothing_of_others():
  found = crossed_intervals(np.ones((2, 1, 3)))
  assert np.isneginf(found.low).all() and np.isposinf(found.high).all()


@pytest.mark.parametrize(
  ("scores", "match"),
  [
    (np.zeros((3, 4)), "quantities, problems"),
    (np.zeros((0, 3, 4)), "not empty"),
    (np.full((1, 3, 4), np.nan), "12 non-finite"),
  ],
)
def test_refuses(scores, match):
  with pytest.raises(ValueError, match=match):
    crossed_intervals(scores)


def test_refuses_a_confidence_of_one():
  with pytest.raises(ValueError, match="confidence"):
    crossed_intervals(np.zeros((1, 3, 4)), confidence=1)


def _differences(rng, studies, policies, problems, runs, scatter):
  """f[T, C, P, S] differences of policies that are equal on average."""
  shape = (studies, policies, problems, runs)
  x = 0.3 * rng.normal(size=shape)  # sampling, and runs on single problems
  x += 0.2 * rng.normal(size=(studies, policies, problems, 1))
  x += rng.normal(size=(studies, policies, 1, runs)) * scatter
  pairs = list(itertools.combinations(range(policies), 2))
  return np.stack([x[:, a] - x[:, b] for a, b in pairs], axis=1)


@pytest.mark.parametrize("runs", [2, 3, 5])
@pytest.mark.parametrize("policies", [2, 6])
@pytest.mark.parametrize("scatter", [0.0, 0.03])
def test_intervals_of_equal_policies_hold_together(runs, policies, scatter):
  d = _differences(np.random.default_rng(7), 300, policies, 60, runs, scatter)
  found = crossed_intervals(d, draws=500)
  held = np.all((found.low <= 0) & (found.high >= 0), axis=-1).mean()
  # 300 studies: two standard deviations are 2.5 points.
  assert held >= 0.91


def test_runs_that_are_averaged_first_make_intervals_too_narrow():
  # Why: the same differences, resampled over problems only.
  d = _differences(np.random.default_rng(8), 150, 2, 60, 3, 0.05)[:, 0]
  found = [bootstrap_interval(x, replicates=400) for x in d]
  held = np.mean([i.low <= 0 <= i.high for i in found])
  mended = crossed_intervals(d[:, None])
  assert held < 0.9 < np.mean((mended.low <= 0) & (mended.high >= 0))
