"""Judges and decisions on intervals of known place."""

import pytest

from jaxvlm.diagnostics import Interval
from jaxvlm.study import verdicts
from jaxvlm.study.verdicts import Verdict


@pytest.mark.parametrize(
  ("judge", "interval", "verdict"),
  [
    (verdicts.above(0.01), (0.10, 0.05, 0.15), Verdict.REPRODUCED),
    (verdicts.above(0.01), (-0.1, -0.2, -0.05), Verdict.NOT_REPRODUCED),
    (verdicts.above(0.01), (0.005, 0.002, 0.008), Verdict.NOT_REPRODUCED),
    (verdicts.above(0.01), (0.02, -0.01, 0.05), Verdict.INCONCLUSIVE),
    (verdicts.above(0.0), (0.005, 0.002, 0.008), Verdict.REPRODUCED),
    (verdicts.below(5.0), (-9.0, -12.0, -6.0), Verdict.REPRODUCED),
    (verdicts.below(5.0), (1.0, -2.0, 4.0), Verdict.NOT_REPRODUCED),
    (verdicts.below(5.0), (8.0, 6.0, 10.0), Verdict.NOT_REPRODUCED),
    (verdicts.below(5.0), (-3.0, -7.0, 1.0), Verdict.INCONCLUSIVE),
    (verdicts.not_below(5.0), (2.0, -1.0, 5.0), Verdict.REPRODUCED),
    (verdicts.not_below(5.0), (-2.0, -4.0, -0.5), Verdict.NOT_REPRODUCED),
    (verdicts.not_below(5.0), (-1.0, -6.0, 4.0), Verdict.INCONCLUSIVE),
    (verdicts.reaches(5.0), (-2.0, -4.0, -0.5), Verdict.REPRODUCED),
    (verdicts.reaches(5.0), (-9.0, -12.0, -6.0), Verdict.NOT_REPRODUCED),
    (verdicts.reaches(5.0), (-4.0, -9.0, 1.0), Verdict.INCONCLUSIVE),
    (verdicts.equal(5.0), (1.0, -3.0, 4.9), Verdict.REPRODUCED),
    (verdicts.equal(5.0), (3.0, 1.0, 4.0), Verdict.REPRODUCED),
    (verdicts.equal(5.0), (8.0, 4.0, 12.0), Verdict.NOT_REPRODUCED),
    (verdicts.equal(5.0), (4.0, 1.0, 7.0), Verdict.INCONCLUSIVE),
    (verdicts.equal(5.0), (0.0, -6.0, 6.0), Verdict.INCONCLUSIVE),
  ],
)
def test_rules(judge, interval, verdict):
  assert judge(Interval(*interval)) is verdict


@pytest.mark.parametrize(
  ("intervals", "verdict"),
  [
    (((1.0, -1.0, 3.0), (5.0, 3.0, 7.0)), Verdict.REPRODUCED),
    (((-1.0, -3.0, 1.0), (5.0, 3.0, 7.0)), Verdict.INCONCLUSIVE),
    (((-3.0, -5.0, -1.0), (5.0, 3.0, 7.0)), Verdict.NOT_REPRODUCED),
    (((0.5, -1.0, 1.9), (-0.5, -1.5, 1.0)), Verdict.NOT_REPRODUCED),
    (((1.0, -2.5, 3.0), (1.0, -1.0, 3.0)), Verdict.INCONCLUSIVE),
  ],
)
def test_rule_of_the_two_pass_at_16_contrasts(intervals, verdict):
  judge = verdicts.above(2.0)
  contrasts = [
    verdicts.Contrast("", "points", Interval(*i), {}, judge(Interval(*i)))
    for i in intervals
  ]
  assert verdicts.positive_and_one_clear(contrasts) is verdict


def test_one_failed_contrast_decides_and_one_missing_leaves_open():
  def verdict(*found):
    contrasts = [verdicts.Contrast("", "", None, {}, v) for v in found]
    return verdicts.every(contrasts)

  good, bad = Verdict.REPRODUCED, Verdict.NOT_REPRODUCED
  absent, open_ = Verdict.NOT_MEASURED, Verdict.INCONCLUSIVE
  assert verdict(good, good) is good
  assert verdict(good, absent, bad) is bad
  assert verdict(good, absent) is absent
  assert verdict(good, open_) is open_
  assert verdict() is absent
