"""Headroom prompt by prompt: what groups of a batch of problems will teach.

The chance that a group is useful is a curve of the pass rate p of its own
prompt, high in the middle and 0 at both ends. Half the prompts at 0 and half
at 1 have the mean 1/2 and teach nothing: the mean of p misleads, so everything
here is averaged over prompts last.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from jaxvlm.diagnostics.bootstrap import Interval, bootstrap_interval
from jaxvlm.diagnostics.headroom import (
  degenerate_probability,
  expected_group_variance,
  headroom_threshold,
)
from jaxvlm.diagnostics.passk import pass_at_k


class Headroom(NamedTuple):
  """What groups of g rollouts of these prompts will carry.

  Attributes:
    group: g.
    rates: f64[P] share of right samples of every prompt.
    low: f64[P] lower end of the exact interval of each rate.
    high: f64[P] upper end.
    pass_rate: mean of the rates, with its interval over prompts.
    useful: share of groups that are not degenerate.
    useful_at_mean: what a single prompt with the mean rate would give.
    variance: mean biased variance of a group's rewards, of which the larger
      counts as 1.
    variance_at_mean: what the mean rate would give.
    below: share of prompts whose rate is below p*(g): most of their groups
      are all wrong.
    above: share of prompts above 1 − p*(g): most groups are all right.
  """

  group: int
  rates: np.ndarray
  low: np.ndarray
  high: np.ndarray
  pass_rate: Interval
  useful: Interval
  useful_at_mean: float
  variance: Interval
  variance_at_mean: float
  below: float
  above: float


def headroom(rewards: ArrayLike, g: int) -> Headroom:
  """Returns what groups of g will carry, from n samples a prompt.

  E[share of useful groups] = mean_i [1 − p_i^g − (1 − p_i)^g], estimated
  without bias from c_i right ones of n by 1 − [C(c_i, g) + C(n−c_i, g)]/C(n, g)
  (arXiv 2606.18487, proposition 2, prompt by prompt; the estimate is that of
  pass@k, arXiv 2107.03374, on both sides).

  Args:
    rewards: f[P, n] of each sample; at most two values, the larger is right.
      Where all are equal, 0 is wrong and any other value right.
    g: group size.

  Raises:
    ValueError: more than two values, or fewer samples than g.
  """
  correct = binary(rewards)
  n = correct.shape[1]
  threshold = headroom_threshold(g)
  if n < g:
    said = "one sample a prompt says" if n == 1 else f"{n} samples a prompt say"
    raise ValueError(
      f"{said} nothing without bias about groups of {g}, expected at least {g}"
      " samples of each; draw more, or ask about a smaller group"
    )
  counts = correct.sum(1)
  rates = counts / n
  low, high = rate_intervals(counts, n)
  mean = float(rates.mean())
  variance = counts * (n - counts) / (n * max(n - 1, 1)) * (g - 1) / g
  return Headroom(
    group=g,
    rates=rates,
    low=low,
    high=high,
    pass_rate=bootstrap_interval(rates, bounds=(0, 1)),
    useful=bootstrap_interval(_useful(counts, n, g), bounds=(0, 1)),
    useful_at_mean=1 - float(degenerate_probability(mean, g)),
    variance=bootstrap_interval(variance),
    variance_at_mean=float(expected_group_variance(mean, g)),
    below=float(np.mean(rates < threshold)),
    above=float(np.mean(rates > 1 - threshold)),
  )


class GroupSize(NamedTuple):
  """The smallest group that is useful often enough; None: beyond n.

  Attributes:
    size: by the estimate.
    least: by the upper end of its interval.
    most: by the lower end: enough with confidence.
  """

  size: int | None
  least: int | None
  most: int | None


def group_for_share(rewards: ArrayLike, share: float) -> GroupSize:
  """Returns the group size at which a share of groups is useful.

  Args:
    rewards: f[P, n] as in `headroom`; sizes up to n can be judged.
    share: of groups that must not be degenerate, in (0, 1).

  Raises:
    ValueError: more than two values, one sample a prompt, a share that is none.
  """
  if not 0 < share < 1:
    raise ValueError(f"share: got {share}, expected between 0 and 1")
  correct = binary(rewards)
  counts, n = correct.sum(1), correct.shape[1]
  if n < 2:
    raise ValueError(
      "one sample a prompt says nothing about groups, expected at least 2"
    )

  def smallest(which: str) -> int | None:
    # The share grows with the group, prompt by prompt.
    low, high = 1, n + 1
    while high - low > 1:
      middle = (low + high) // 2
      values = _useful(counts, n, middle)
      found = bootstrap_interval(values, bounds=(0, 1), replicates=2_000)
      if getattr(found, which) >= share:
        high = middle
      else:
        low = middle
    return high if high <= n else None

  return GroupSize(smallest("mean"), smallest("high"), smallest("low"))


def binary(rewards: ArrayLike) -> np.ndarray:
  """Returns bool[P, n]: which samples are right, from rewards of two values.

  Raises:
    ValueError: no such shape, or more than two values: the theory of groups
      counts right and wrong ones.
  """
  values = np.asarray(rewards, np.float64)
  if values.ndim != 2 or not values.size:
    raise ValueError(
      f"rewards: got shape {values.shape}, expected [prompts, samples]"
    )
  known = np.unique(values)
  if len(known) > 2 or not np.isfinite(known).all():
    shown = ", ".join(f"{v:g}" for v in known[:5]) + ", …" * (len(known) > 5)
    raise ValueError(
      f"rewards: got {len(known)} values ({shown}), expected at most two, right"
      " and wrong; pass a score such as accuracy"
    )
  return values == known[1] if len(known) == 2 else values != 0


def rate_intervals(
  counts: ArrayLike, n: int, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the exact interval of each rate (Clopper and Pearson, 1934).

  Args:
    counts: i[P] right ones of n samples.
    n: samples a prompt.
    confidence: of each interval by itself.
  """
  counts, tail = np.asarray(counts), (1 - confidence) / 2
  low = special.betaincinv(np.maximum(counts, 1), n - counts + 1, tail)
  high = special.betaincinv(counts + 1, np.maximum(n - counts, 1), 1 - tail)
  return np.where(counts > 0, low, 0.0), np.where(counts < n, high, 1.0)


def _useful(counts: np.ndarray, n: int, g: int) -> np.ndarray:
  """Returns, without bias, the chance that a group of g is not degenerate."""
  some_right, some_wrong = (pass_at_k(n, c, g) for c in (counts, n - counts))
  return np.clip(some_right + some_wrong - 1, 0.0, 1.0)
