"""Percentile bootstrap over problems: the interval beside every number.

Problems are what a benchmark samples from the world, so problems are
resampled; seeds and samples of one problem move together. Where resampling
says nothing (0 of 40 solved gives 0 in every resample), an exact interval
takes its place.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

# Indices drawn at a time: 8 MiB, whatever the number of replicates.
_CHUNK = 1 << 20


class Interval(NamedTuple):
  """A mean between the ends of its interval."""

  mean: float
  low: float
  high: float


def bootstrap_interval(
  values: ArrayLike,
  *,
  bounds: tuple[float, float] | None = None,
  confidence: float = 0.95,
  replicates: int = 10_000,
  seed: int = 0,
) -> Interval:
  """Returns the mean over problems and its percentile bootstrap interval.

  low, high = quantiles (1 ∓ confidence)/2 of { mean(v[i₁ … i_P]) }, i uniform
  with replacement (Efron 1979). Two cases are exact, given the bounds that no
  score can leave, with α = 1 − confidence:

  * every score is one of the bounds (solved or not): the interval of
    Clopper and Pearson (1934), so that 0 of P ends at 1 − (α/2)^(1/P);
  * every score is the same v between them: at most ε = 1 − (α/2)^(1/P) of all
    problems can differ from v, or P equal ones are less probable than α/2.
    The mean is then at least v − ε(v − low bound) and at most
    v + ε(high bound − v).

  Args:
    values: f[P] one score per problem, or f[P, seeds], averaged over seeds.
    bounds: least and largest possible score, such as (0, 1) for a rate; None
      if there are none. Without them equal scores give an interval without
      width, which says only that the resamples were equal.
    confidence: probability that the interval claims, in (0, 1).
    replicates: resamples to draw.
    seed: of the resampling; the same seed gives the same interval.

  Returns:
    Interval; from −∞ to ∞ for one problem without bounds, which says nothing
    of others.

  Raises:
    ValueError: no problem, a non-finite score, a score out of bounds, or a
      confidence out of range.
  """
  scores = _per_problem(values, "values")
  if not 0 < confidence < 1:
    raise ValueError(f"confidence: got {confidence}, expected between 0 and 1")
  if replicates < 1:
    raise ValueError(f"replicates: got {replicates}, expected at least 1")
  if bounds is not None:
    exact = _exact(scores, bounds, (1 - confidence) / 2)
    if exact is not None:
      return exact
  mean = float(scores.mean())
  if scores.size == 1:
    return Interval(mean, -np.inf, np.inf)
  rng = np.random.default_rng(seed)
  rows = max(1, _CHUNK // scores.size)
  means = np.empty(replicates)
  for start in range(0, replicates, rows):
    count = min(rows, replicates - start)
    chosen = rng.integers(scores.size, size=(count, scores.size))
    means[start : start + count] = scores[chosen].mean(axis=1)
  tail = (1 - confidence) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  return Interval(mean, float(low), float(high))


def _exact(
  scores: np.ndarray, bounds: tuple[float, float], tail: float
) -> Interval | None:
  """Returns the interval where resampling would mislead, else None."""
  least, most = bounds
  if not least < most:
    raise ValueError(f"bounds: got {bounds}, expected the smaller one first")
  # Means over seeds of scores within the bounds may leave them by a rounding.
  slack = 1e-9 * (most - least)
  if scores.min() < least - slack or scores.max() > most + slack:
    raise ValueError(
      f"values: got {scores.min()} to {scores.max()}, expected {least} to"
      f" {most} as bounds says"
    )
  n, mean = scores.size, float(scores.mean())
  at_most = np.isclose(scores, most, rtol=0, atol=slack)
  if np.all(at_most | np.isclose(scores, least, rtol=0, atol=slack)):
    hits = int(at_most.sum())
    low = special.betaincinv(hits, n - hits + 1, tail) if hits else 0.0
    high = special.betaincinv(hits + 1, n - hits, 1 - tail) if hits < n else 1.0
    width = most - least
    return Interval(
      mean, float(least + width * low), float(least + width * high)
    )
  if np.ptp(scores) <= slack:
    share = 1 - tail ** (1 / n)
    return Interval(
      mean, mean - share * (mean - least), mean + share * (most - mean)
    )
  return None


def paired_bootstrap(
  a: ArrayLike,
  b: ArrayLike,
  *,
  bounds: tuple[float, float] | None = None,
  confidence: float = 0.95,
  replicates: int = 10_000,
  seed: int = 0,
) -> Interval:
  """Returns mean(a − b) over problems and its paired bootstrap interval.

  Both arms are resampled with the same problems, so that what makes a problem
  hard for both cancels.

  Args:
    a: f[P] or f[P, seeds] scores of one arm.
    b: f[P] or f[P, seeds'] scores of the other on the same problems.
    bounds: of the scores, as in `bootstrap_interval`; differences lie between
      low − high and high − low.
    confidence: as in `bootstrap_interval`.
    replicates: as in `bootstrap_interval`.
    seed: as in `bootstrap_interval`.

  Raises:
    ValueError: as `bootstrap_interval`, or different numbers of problems.
  """
  first, second = _per_problem(a, "a"), _per_problem(b, "b")
  if first.size != second.size:
    raise ValueError(
      f"b: got {second.size} problems, expected {first.size} as in a; pair "
      "the arms problem by problem"
    )
  width = None if bounds is None else bounds[1] - bounds[0]
  return bootstrap_interval(
    first - second,
    bounds=None if width is None else (-width, width),
    confidence=confidence,
    replicates=replicates,
    seed=seed,
  )


def _per_problem(values: ArrayLike, name: str) -> np.ndarray:
  scores = np.asarray(values, np.float64)
  if scores.ndim not in (1, 2) or scores.size == 0:
    raise ValueError(
      f"{name}: got shape {scores.shape}, expected [problems] or "
      "[problems, seeds], not empty"
    )
  if not np.isfinite(scores).all():
    raise ValueError(
      f"{name}: got {np.sum(~np.isfinite(scores))} non-finite scores, expected "
      "none; decide what a failed problem scores"
    )
  return scores if scores.ndim == 1 else scores.mean(axis=1)
