"""Intervals over problems and training runs, several of them at once.

A study that is repeated meets other problems and other runs: both are drawn at
random, every run meets every problem. Resampling a handful of runs gives too
little: three of them have two degrees of freedom. The variance is therefore
taken apart (two-way analysis of variance, one score a cell), and the interval
is Student's.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

# Below this, a variance of scores of about 1 is what adding them up leaves.
_ROUNDING = 1e-24


class Intervals(NamedTuple):
  """Means between the ends of their intervals, each f64[..., C]."""

  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray


def crossed_intervals(
  scores: ArrayLike,
  *,
  bounds: tuple[float, float] | None = None,
  confidence: float = 0.95,
  draws: int = 10_000,
) -> Intervals:
  """Returns C means over problems and runs; their intervals hold together.

  With the mean squares of problems, runs and rest, and the runs' excess
  x = max(0, ⟨MS_R⟩ − ⟨MS_E⟩), averaged over the C quantities,

    m ± t_ν(1 − α′/2) · √((MS_P + x) / PS),
    ν = (MS_P + x)² / (MS_P²/(P−1) + ⟨MS_R⟩²/(e(S−1)) + ⟨MS_E⟩²/((P−1)(S−1))).

  ν is Satterthwaite's (1946). Averaging over the C quantities assumes that runs
  scatter alike in all of them, and counts for e = C²/Σρ² independent ones. α′
  is the level at which the largest of C correlated normal deviates stays inside
  with the wanted confidence (the maximum statistic); correlations ρ are those
  over problems, of which there are enough to measure them.

  With one run the scatter of runs cannot be seen: the intervals then speak of
  other problems and of this very run.

  Args:
    scores: f[..., C, P, S]: C quantities, such as differences of policies,
      on P problems in S runs.
    bounds: least and largest possible score; None if there are none. Equal
      scores then get the interval of `bootstrap_interval` at level α′,
      otherwise one without width.
    confidence: probability that all C intervals hold, in (0, 1).
    draws: normal deviates for the maximum statistic, from a fixed seed.

  Returns:
    Intervals; from −∞ to ∞ for one problem.

  Raises:
    ValueError: fewer than three axes, an empty one, a score that is not
      finite, or a confidence out of range.
  """
  x = np.asarray(scores, np.float64)
  if x.ndim < 3 or x.size == 0:
    raise ValueError(
      f"scores: got shape {x.shape}, expected [..., quantities, problems,"
      " runs], not empty"
    )
  if not np.isfinite(x).all():
    raise ValueError(
      f"scores: got {np.sum(~np.isfinite(x))} non-finite, expected none;"
      " decide what a failed problem scores"
    )
  if not 0 < confidence < 1:
    raise ValueError(f"confidence: got {confidence}, expected between 0 and 1")
  c, p, s = x.shape[-3:]
  mean = x.mean((-2, -1))
  if p == 1:
    return Intervals(mean, np.full_like(mean, -np.inf), mean + np.inf)
  by_problem = x.mean(-1) - mean[..., None]
  by_run = x.mean(-2) - mean[..., None]
  correlation = _correlation(by_problem)
  tail = _tail(correlation, 1 - confidence, draws)[..., None]
  problems = s * np.square(by_problem).sum(-1) / (p - 1)
  excess, doubt = np.zeros_like(problems), np.zeros_like(problems)
  if s > 1:
    rest = x - mean[..., None, None] - by_problem[..., None]
    rest -= by_run[..., None, :]
    square = p * np.square(by_run).sum(-1) / (s - 1)
    noise = np.square(rest).sum((-2, -1)) / ((p - 1) * (s - 1))
    square, noise = (v.mean(-1, keepdims=True) for v in (square, noise))
    excess = np.maximum(square - noise, 0.0)
    apart = c**2 / np.square(correlation).sum((-2, -1))[..., None]
    doubt = square**2 / (apart * (s - 1)) + noise**2 / ((p - 1) * (s - 1))
    doubt = np.where(excess > 0, doubt, 0.0)
  total = problems + excess
  with np.errstate(invalid="ignore", divide="ignore"):
    freedom = total**2 / (problems**2 / (p - 1) + doubt)
  freedom = np.where(total < _ROUNDING, p - 1.0, freedom)
  half = special.stdtrit(freedom, 1 - tail) * np.sqrt(total / (p * s))
  low, high = mean - half, mean + half
  if bounds is not None:
    # As many equal problems are less probable than the tail if more differ.
    share = 1 - tail ** (1 / p)
    equal = total < _ROUNDING
    low = np.where(equal, mean - share * (mean - bounds[0]), low)
    high = np.where(equal, mean + share * (bounds[1] - mean), high)
    low, high = np.maximum(low, bounds[0]), np.minimum(high, bounds[1])
  return Intervals(mean, low, high)


def _correlation(deviations: np.ndarray) -> np.ndarray:
  """f[..., C, P] -> f[..., C, C]; a constant quantity goes with no other."""
  product = deviations @ np.swapaxes(deviations, -1, -2)
  scale = np.sqrt(np.diagonal(product, axis1=-2, axis2=-1))
  scale = np.where(scale > 0, scale, 1.0)
  out = product / (scale[..., :, None] * scale[..., None, :])
  return np.where(np.eye(out.shape[-1], dtype=bool), 1.0, out)


def _tail(correlation: np.ndarray, level: float, draws: int) -> np.ndarray:
  """Returns f[...], each end's share of α′, so that all C hold at 1 − level."""
  c = correlation.shape[-1]
  if c == 1:
    return np.full(correlation.shape[:-2], level / 2)
  values, vectors = np.linalg.eigh(correlation)
  root = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
  deviates = np.random.default_rng(0).standard_normal((c, draws))
  most = np.abs(root @ deviates).max(-2)
  return special.ndtr(-np.quantile(most, 1 - level, axis=-1))
