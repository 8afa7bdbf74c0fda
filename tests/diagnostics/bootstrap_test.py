"""The bootstrap against full enumeration, and its coverage by simulation."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from jaxvlm.diagnostics import bootstrap, bootstrap_interval, paired_bootstrap


def test_matches_enumeration_of_every_resample():
  values = np.array([0.0, 1.0, 4.0, 9.0, 16.0])
  means = [
    np.mean(values[list(chosen)])
    for chosen in itertools.product(range(5), repeat=5)
  ]
  low, high = np.quantile(means, [0.1, 0.9])
  interval = bootstrap_interval(values, confidence=0.8, replicates=100_000)
  assert interval.mean == 6.0
  np.testing.assert_allclose(interval.low, low, atol=0.2)
  np.testing.assert_allclose(interval.high, high, atol=0.2)


def test_coverage_is_near_the_claim():
  rng = np.random.default_rng(1)
  covered = 0
  for trial in range(300):
    # Skewed scores between 0 and 1 around 1/3, as pass rates are.
    values = rng.beta(1.0, 2.0, size=60)
    interval = bootstrap_interval(values, replicates=1000, seed=trial)
    covered += interval.low <= 1 / 3 <= interval.high
  assert 0.90 <= covered / 300 <= 0.99


@pytest.mark.parametrize("n", [1, 5, 40])
def test_all_or_nothing_is_the_exact_binomial_interval(n):
  for hits in range(n + 1):
    scores = np.arange(n) < hits
    found = bootstrap_interval(scores, bounds=(0, 1))
    expected = stats.binomtest(hits, n).proportion_ci(0.95, "exact")
    assert found.mean == pytest.approx(hits / n)
    np.testing.assert_allclose(found[1:], expected, rtol=1e-9, atol=1e-12)
    # The same scores on another scale, and each repeated by seeds.
    moved = bootstrap_interval(4.0 * scores - 1, bounds=(-1, 3))
    np.testing.assert_allclose(moved, 4 * np.array(found) - 1, atol=1e-12)
    seeds = np.repeat(scores[:, None], 3, axis=1)
    assert bootstrap_interval(seeds, bounds=(0, 1)) == found


@pytest.mark.parametrize("rate", [0.005, 0.02, 0.08, 0.5, 0.97, 0.999])
def test_exact_intervals_cover_near_the_ends(rate):
  # Exactly, by summing the binomial over every possible count.
  n = 40
  covered = 0.0
  for hits in range(n + 1):
    interval = bootstrap_interval(np.arange(n) < hits, bounds=(0, 1))
    inside = interval.low <= rate <= interval.high
    covered += inside * stats.binom.pmf(hits, n, rate)
  assert covered >= 0.95


@pytest.mark.parametrize("n", [2, 10, 40])
def test_equal_scores_cover_whatever_the_rare_ones_are(n):
  # Hardest for the rule: nearly all problems score v, the rest a bound.
  low, v, high = 0.0, 0.5, 1.0
  rare = np.linspace(0, 1, 400)[1:]
  for other in (low, high):
    mean = (1 - rare) * v + rare * other
    interval = bootstrap_interval(np.full(n, v), bounds=(low, high))
    outside = (mean < interval.low) | (mean > interval.high)
    # Equal scores that mislead are rarer than the tail.
    assert np.all((1 - rare[outside]) ** n <= 0.025)
    assert outside.any()


def test_no_difference_anywhere_is_no_certainty():
  a = np.random.default_rng(7).random((40, 3))
  found = paired_bootstrap(a, a, bounds=(0, 1))
  share = 1 - 0.025 ** (1 / 40)
  np.testing.assert_allclose(found, (0.0, -share, share), rtol=1e-12)


def test_bounds_leave_other_scores_to_the_bootstrap():
  values = np.random.default_rng(8).random(30)
  assert bootstrap_interval(values, bounds=(0, 1)) == bootstrap_interval(values)


def test_paired_coverage_and_gain_from_pairing():
  rng = np.random.default_rng(2)
  covered, paired_width, unpaired_width = 0, 0.0, 0.0
  for trial in range(200):
    hard = rng.random(50)
    a = hard + 0.1 + 0.05 * rng.standard_normal(50)
    b = hard + 0.05 * rng.standard_normal(50)
    interval = paired_bootstrap(a, b, replicates=1000, seed=trial)
    covered += interval.low <= 0.1 <= interval.high
    paired_width += interval.high - interval.low
    shuffled = paired_bootstrap(a, rng.permutation(b), replicates=1000)
    unpaired_width += shuffled.high - shuffled.low
  assert 0.90 <= covered / 200 <= 0.99
  assert paired_width < unpaired_width / 3


def test_seeds_of_a_problem_move_together():
  rng = np.random.default_rng(3)
  scores = rng.random((40, 8))
  assert bootstrap_interval(scores) == bootstrap_interval(scores.mean(axis=1))
  # Repeating a problem's score adds no evidence: the interval must not shrink.
  repeated = np.repeat(scores[:, :1], 100, axis=1)
  np.testing.assert_allclose(
    bootstrap_interval(repeated), bootstrap_interval(scores[:, 0])
  )


def test_arms_may_have_different_seeds():
  rng = np.random.default_rng(4)
  a, b = rng.random((30, 3)), rng.random((30, 5))
  assert paired_bootstrap(a, b) == bootstrap_interval(a.mean(1) - b.mean(1))
  options = {"confidence": 0.5, "replicates": 300, "seed": 3}
  assert paired_bootstrap(a, b, **options) == bootstrap_interval(
    a.mean(1) - b.mean(1), **options
  )
  same = paired_bootstrap(a, a)
  assert same == bootstrap.Interval(0.0, 0.0, 0.0)


def test_chunks_do_not_change_the_result(monkeypatch):
  values = np.random.default_rng(5).random(37)
  whole = bootstrap_interval(values, replicates=999)
  monkeypatch.setattr(bootstrap, "_CHUNK", 100)
  assert bootstrap_interval(values, replicates=999) == whole


@hypothesis.given(
  st.lists(st.floats(-100, 100), min_size=2, max_size=20),
  st.floats(-10, 10),
  st.floats(0.1, 10),
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_properties(values, shift, scale):
  values = np.array(values)
  narrow = bootstrap_interval(values, replicates=200, confidence=0.5)
  wide = bootstrap_interval(values, replicates=200, confidence=0.9)
  tiny = 1e-9 * (1 + np.abs(values).max())
  assert values.min() - tiny <= wide.low <= narrow.low
  assert narrow.high <= wide.high <= values.max() + tiny
  moved = bootstrap_interval(
    scale * values + shift, replicates=200, confidence=0.9
  )
  np.testing.assert_allclose(
    moved, scale * np.array(wide) + shift, rtol=1e-9, atol=1e-7
  )


def test_seed_decides():
  values = np.random.default_rng(6).random(20)
  assert bootstrap_interval(values) == bootstrap_interval(values)
  assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


def test_one_problem_says_nothing_of_others():
  assert bootstrap_interval([0.5]) == (0.5, -np.inf, np.inf)


@pytest.mark.parametrize(
  ("values", "kwargs", "named"),
  [
    ([], {}, "values: got shape"),
    (np.ones((2, 2, 2)), {}, "values: got shape"),
    ([1.0, np.nan], {}, "1 non-finite"),
    ([1.0, 2.0], {"confidence": 95}, "confidence: got 95"),
    ([1.0, 2.0], {"replicates": 0}, "replicates: got 0"),
    ([1.0, 2.0], {"bounds": (0, 1)}, "values: got 1.0 to 2.0, expected 0 to 1"),
    ([1.0, 2.0], {"bounds": (2, 2)}, "bounds: got"),
  ],
)
def test_errors_name_the_argument(values, kwargs, named):
  with pytest.raises(ValueError, match=named):
    bootstrap_interval(values, **kwargs)


def test_arms_need_the_same_problems():
  with pytest.raises(ValueError, match="b: got 3 problems, expected 2"):
    paired_bootstrap([1.0, 2.0], [1.0, 2.0, 3.0])
