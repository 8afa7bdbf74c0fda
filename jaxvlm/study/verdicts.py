"""Decision rules: what an interval of a difference says of a claim.

The margins were fixed before any run; they are ours, wide enough for the few
hundred problems of a laptop. The intervals were changed after results had been
seen (`claims.TOGETHER`).
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence

from jaxvlm.diagnostics import Interval

# Ours. The paper speaks of "within about one point" on 601 problems; a few
# hundred problems leave intervals of some ±4 points.
MARGIN_POINTS = 5.0
# Ours: the smaller of the paper's two contrasts in pass@16 at RL entry.
NEGLIGIBLE_POINTS = 2.0
# Ours: within a tenth of its own size an entropy is not "substantially higher"
# than another; of the paper's 0.12 nats that is 0.012.
NEGLIGIBLE_SHARE = 0.1
# Ours: the paper's own "flat" curve moves from 0.119 over 0.141 to 0.115
# nats, a range of 22 % of its start.
FLAT = 0.22


class Verdict(enum.Enum):
  """What an interval says of a claim."""

  REPRODUCED = "reproduced"
  NOT_REPRODUCED = "not reproduced"
  INCONCLUSIVE = "inconclusive"
  NOT_MEASURED = "not measured"
  NO_VERDICT = "no verdict"


Judge = Callable[[Interval], Verdict]


@dataclasses.dataclass(frozen=True)
class Contrast:
  """One difference that a claim speaks of.

  Attributes:
    label: the two policies and the quantity.
    unit: of the interval: "points" or "nats".
    interval: None where one of the policies was not measured.
    per_seed: seed -> difference.
    verdict: of this contrast alone.
  """

  label: str
  unit: str
  interval: Interval | None
  per_seed: Mapping[int, float]
  verdict: Verdict


def above(negligible: float) -> Judge:
  """The difference is positive, and not negligibly so."""

  def judge(interval: Interval) -> Verdict:
    if interval.high < 0 or _inside(interval, negligible):
      return Verdict.NOT_REPRODUCED
    return _either(interval.low > 0)

  return judge


def below(interval: Interval) -> Verdict:
  """The difference is negative; all but excluded is a loss above the margin."""
  if interval.high < 0:
    return Verdict.REPRODUCED
  if interval.low > 0 or _inside(interval, MARGIN_POINTS):
    return Verdict.NOT_REPRODUCED
  return Verdict.INCONCLUSIVE


def not_below(interval: Interval) -> Verdict:
  """Nothing is lost, up to the margin."""
  if interval.high < 0:
    return Verdict.NOT_REPRODUCED
  return _either(interval.low > -MARGIN_POINTS)


def reaches(interval: Interval) -> Verdict:
  """As good or better, up to the margin."""
  if interval.high < 0 and interval.mean < -MARGIN_POINTS:
    return Verdict.NOT_REPRODUCED
  return _either(interval.low > -MARGIN_POINTS)


def equal(margin: float) -> Judge:
  """The two coincide within the margin."""

  def judge(interval: Interval) -> Verdict:
    if _inside(interval, margin):
      return Verdict.REPRODUCED
    excluded = interval.low > 0 or interval.high < 0
    if excluded and abs(interval.mean) > margin:
      return Verdict.NOT_REPRODUCED
    return Verdict.INCONCLUSIVE

  return judge


def _inside(interval: Interval, margin: float) -> bool:
  return -margin < interval.low and interval.high < margin


def _either(holds: bool) -> Verdict:
  return Verdict.REPRODUCED if holds else Verdict.INCONCLUSIVE


def every(contrasts: Sequence[Contrast]) -> Verdict:
  """All contrasts must hold; one that fails decides."""
  found = {contrast.verdict for contrast in contrasts}
  for verdict in (
    Verdict.NOT_REPRODUCED,
    Verdict.NOT_MEASURED,
    Verdict.INCONCLUSIVE,
  ):
    if verdict in found:
      return verdict
  return Verdict.REPRODUCED if found else Verdict.NOT_MEASURED


def positive_and_one_clear(contrasts: Sequence[Contrast]) -> Verdict:
  """As in the paper: both positive, one beyond doubt, the other uncertain."""
  found = [contrast.verdict for contrast in contrasts]
  if Verdict.NOT_MEASURED in found or not found:
    return Verdict.NOT_MEASURED
  intervals = [contrast.interval for contrast in contrasts]
  if any(interval.high < 0 for interval in intervals) or all(
    verdict is Verdict.NOT_REPRODUCED for verdict in found
  ):
    return Verdict.NOT_REPRODUCED
  positive = all(interval.mean > 0 for interval in intervals)
  return _either(positive and Verdict.REPRODUCED in found)
