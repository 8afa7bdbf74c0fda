"""Will a group of rollouts carry a gradient? Binary rewards, group size g.

A group whose rewards are all equal has no advantage and teaches nothing.
"""

import math

import numpy as np
from numpy.typing import ArrayLike


def headroom_threshold(g: int) -> float:
  """Returns the pass rate below which most groups are degenerate.

  p*(g) = smaller root of p^g + (1−p)^g = 1/2 (arXiv 2606.18487, proposition
  2), to the last bit, not its approximation ln 2 / g.

  Args:
    g: group size, at least 2: a group of one is always degenerate.

  Raises:
    ValueError: g < 2 or no integer.
  """
  _require_group(g, least=2)
  if g == 2:
    return 0.5  # A double root, where bisection sees no change of sign.
  low, high = 0.0, 0.5
  while low < (middle := (low + high) / 2) < high:
    # log1p keeps (1−p)^g exact where p is small against 1.
    if middle**g + math.exp(g * math.log1p(-middle)) > 0.5:
      low = middle
    else:
      high = middle
  return high


def degenerate_probability(p: ArrayLike, g: int) -> np.ndarray:
  """Returns the chance that all g rewards are equal: p^g + (1−p)^g.

  arXiv 2606.18487, proposition 2.

  Args:
    p: f[…] pass rate per problem, in [0, 1].
    g: group size.

  Returns:
    f64[…].

  Raises:
    ValueError: p or g out of range.
  """
  p = _rates(p)
  _require_group(g, least=1)
  return p**g + (1 - p) ** g


def expected_group_variance(p: ArrayLike, g: int) -> np.ndarray:
  """Returns the mean biased variance of a group's rewards.

  E[σ_G²] = p(1−p)(g−1)/g with σ_G² = (1/g) Σ (r_i − r̄)² (arXiv 2606.18487,
  proposition 1). The divisor is g, not g − 1.

  Args:
    p: f[…] pass rate per problem, in [0, 1].
    g: group size.

  Returns:
    f64[…].

  Raises:
    ValueError: p or g out of range.
  """
  p = _rates(p)
  _require_group(g, least=1)
  return p * (1 - p) * (g - 1) / g


def _rates(p: ArrayLike) -> np.ndarray:
  p = np.asarray(p, np.float64)
  if not np.all((p >= 0) & (p <= 1)):
    raise ValueError(
      f"p: got values from {np.min(p)} to {np.max(p)}, expected pass rates "
      "between 0 and 1"
    )
  return p


def _require_group(g: int, *, least: int) -> None:
  if not isinstance(g, int | np.integer) or isinstance(g, bool) or g < least:
    raise ValueError(
      f"g: got {g!r}, expected an integer group size of at least {least}"
    )
