"""Which entropy before RL foretells a collapse? Learned from a ladder.

arXiv 2606.18487 proposes 0.18 nats from its own checkpoints. On another
ladder (model, data, probe) the number is another one; a handful of runs that
were paid for tell it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# arXiv 2606.18487: below it, a checkpoint is flagged before RL (stage 1).
ENTROPY_THRESHOLD = 0.18


class Confusion(NamedTuple):
  """Flags against outcomes, in runs.

  Attributes:
    caught: collapsed and flagged.
    missed: collapsed, not flagged.
    spared: did not collapse, not flagged.
    alarmed: did not collapse, and was flagged.
  """

  caught: int
  missed: int
  spared: int
  alarmed: int


class Calibration(NamedTuple):
  """A threshold with what it would have said of the ladder it comes from.

  Attributes:
    threshold: nats; below it a checkpoint is flagged.
    low: lower end of the thresholds that resampled ladders choose (95 %).
    high: upper end.
    confusion: of the ladder, which the threshold has seen.
    left_out: of each run by the threshold of the others.
  """

  threshold: float
  low: float
  high: float
  confusion: Confusion
  left_out: Confusion


def calibrate(
  entropies: ArrayLike,
  collapsed: ArrayLike,
  *,
  replicates: int = 2_000,
  seed: int = 0,
) -> Calibration:
  """Returns the entropy that best separates runs that collapse.

  The threshold is the middle of the gap with the highest balanced accuracy,
  (caught/collapsed + spared/others) / 2; of several gaps, the widest.

  Args:
    entropies: f[R] of each checkpoint before RL, nats.
    collapsed: bool[R] whether RL made it worse.
    replicates: resampled ladders for the interval.
    seed: of the resampling.

  Raises:
    ValueError: fewer than three runs, equal entropies, or a ladder on which
      all runs ended alike.
  """
  entropies = np.asarray(entropies, np.float64)
  collapsed = np.asarray(collapsed, bool)
  if entropies.shape != collapsed.shape or entropies.ndim != 1:
    raise ValueError(
      f"collapsed: got shape {collapsed.shape}, expected {entropies.shape} as"
      " entropies, one of each run"
    )
  if len(entropies) < 3 or not np.isfinite(entropies).all():
    raise ValueError(
      f"entropies: got {entropies.tolist()}, expected at least three finite"
      " ones: a ladder needs runs on both sides"
    )
  if np.ptp(entropies) == 0:
    raise ValueError(
      f"entropies: all {len(entropies)} are {entropies[0]:g} nats, expected"
      " different ones: no threshold separates equal checkpoints"
    )
  if collapsed.all() or not collapsed.any():
    raise ValueError(
      f"collapsed: {'every' if collapsed.all() else 'no'} run collapsed,"
      " expected some of each: nothing tells them apart"
    )
  threshold = _best(entropies, collapsed)
  rng = np.random.default_rng(seed)
  found = []
  for _ in range(replicates):
    chosen = rng.integers(len(entropies), size=len(entropies))
    e, c = entropies[chosen], collapsed[chosen]
    if np.ptp(e) > 0 and c.any() and not c.all():
      found.append(_best(e, c))
  low, high = np.quantile(found or [threshold], [0.025, 0.975])
  return Calibration(
    threshold,
    float(low),
    float(high),
    confusion(entropies < threshold, collapsed),
    confusion(_left_out(entropies, collapsed), collapsed),
  )


def confusion(flagged: ArrayLike, collapsed: ArrayLike) -> Confusion:
  """Returns how flags and outcomes agree.

  Args:
    flagged: bool[R] what the check said before.
    collapsed: bool[R] what happened.
  """
  flagged, collapsed = np.asarray(flagged, bool), np.asarray(collapsed, bool)
  return Confusion(
    caught=int(np.sum(flagged & collapsed)),
    missed=int(np.sum(~flagged & collapsed)),
    spared=int(np.sum(~flagged & ~collapsed)),
    alarmed=int(np.sum(flagged & ~collapsed)),
  )


def _best(entropies: np.ndarray, collapsed: np.ndarray) -> float:
  levels = np.unique(entropies)
  gaps = np.diff(levels)
  middles = levels[:-1] + gaps / 2
  flagged = entropies[None] < middles[:, None]
  caught = (flagged & collapsed).sum(1) / collapsed.sum()
  spared = (~flagged & ~collapsed).sum(1) / (~collapsed).sum()
  score = caught + spared
  best = np.isclose(score, score.max())
  return float(middles[np.flatnonzero(best)[np.argmax(gaps[best])]])


def _left_out(entropies: np.ndarray, collapsed: np.ndarray) -> np.ndarray:
  """Returns what the others' threshold says of each run."""
  flags = np.zeros(len(entropies), bool)
  for run in range(len(entropies)):
    others = np.arange(len(entropies)) != run
    e, c = entropies[others], collapsed[others]
    # Without runs on both sides, the others say what all of them were.
    one_sided = c.all() or not c.any() or np.ptp(e) == 0
    flags[run] = c.all() if one_sided else entropies[run] < _best(e, c)
  return flags
