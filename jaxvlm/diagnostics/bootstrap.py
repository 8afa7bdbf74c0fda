"""Percentile bootstrap over problems: the interval beside every number.

Problems are what a benchmark samples from the world, so problems are
resampled; seeds and samples of one problem move together.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# Indices drawn at a time: 8 MiB, whatever the number of replicates.
_CHUNK = 1 << 20


class Interval(NamedTuple):
  """A mean between the ends of its percentile interval."""

  mean: float
  low: float
  high: float


def bootstrap_interval(
  values: ArrayLike,
  *,
  confidence: float = 0.95,
  replicates: int = 10_000,
  seed: int = 0,
) -> Interval:
  """Returns the mean over problems and its percentile bootstrap interval.

  low, high = quantiles (1 ∓ confidence)/2 of { mean(v[i₁ … i_P]) }, i uniform
  with replacement (Efron 1979).

  Args:
    values: f[P] one score per problem, or f[P, seeds], averaged over seeds.
    confidence: probability that the interval claims, in (0, 1).
    replicates: resamples to draw.
    seed: of the resampling; the same seed gives the same interval.

  Returns:
    Interval; from −∞ to ∞ for one problem, which says nothing of others.

  Raises:
    ValueError: no problem, a non-finite score, or a confidence out of range.
  """
  scores = _per_problem(values, "values")
  if not 0 < confidence < 1:
    raise ValueError(f"confidence: got {confidence}, expected between 0 and 1")
  if replicates < 1:
    raise ValueError(f"replicates: got {replicates}, expected at least 1")
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


def paired_bootstrap(
  a: ArrayLike,
  b: ArrayLike,
  *,
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
  return bootstrap_interval(
    first - second, confidence=confidence, replicates=replicates, seed=seed
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
