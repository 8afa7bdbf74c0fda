"""Decision rules: what an interval of a difference says of a claim.

A judge looks at one interval, a decision at all that a claim asks about.
Margins are the study's: fix them before any run.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence

from jaxvlm.diagnostics import Interval


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
    unit: of the interval, such as "points" or "nats".
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


def below(margin: float) -> Judge:
  """The difference is negative; all but excluded is a loss above the margin."""

  def judge(interval: Interval) -> Verdict:
    if interval.high < 0:
      return Verdict.REPRODUCED
    if interval.low > 0 or _inside(interval, margin):
      return Verdict.NOT_REPRODUCED
    return Verdict.INCONCLUSIVE

  return judge


def not_below(margin: float) -> Judge:
  """Nothing is lost, up to the margin."""

  def judge(interval: Interval) -> Verdict:
    if interval.high < 0:
      return Verdict.NOT_REPRODUCED
    return _either(interval.low > -margin)

  return judge


def reaches(margin: float) -> Judge:
  """As good or better, up to the margin."""

  def judge(interval: Interval) -> Verdict:
    if interval.high < 0 and interval.mean < -margin:
      return Verdict.NOT_REPRODUCED
    return _either(interval.low > -margin)

  return judge


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
  """All are positive, and one of them beyond doubt."""
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
