"""Remarks that numbers add to a verdict; each is made for a claim.

A remark is a function of the results; "" where it has nothing to say.
"""

from collections.abc import Callable, Sequence

from jaxvlm.study.claims import Remark
from jaxvlm.study.design import Point, Policy
from jaxvlm.study.results import Results


def end_of_scale(
  policies: Callable[[Results], Sequence[Policy]], problem_set: str, metric: str
) -> Remark:
  """Warns of policies that coincide because the scale ends there.

  Args:
    policies: those that are said to coincide.
    problem_set: where.
    metric: a share.
  """

  def remark(results: Results) -> str:
    measured = results.measured_as(metric, problem_set)
    found = [results.mean(p, problem_set, measured) for p in policies(results)]
    means = [100 * mean for mean in found if mean is not None]
    if not means or (min(means) <= 95 and max(means) >= 5):
      return ""
    return (
      f"All arms end between {min(means):.1f} and {max(means):.1f} %: so near "
      "the end of the scale that they coincide whatever the claim says."
    )

  return remark


def above_along(arm: str, others: Sequence[str], metric: str) -> Remark:
  """Says at how many evaluations of the last stage an arm is above others."""

  def remark(results: Results) -> str:
    design = results.design
    apart = compared = 0
    for step in results.steps(arm, design.last, design.main_set):
      first, *rest = (Point(a, design.last, step) for a in (arm, *others))
      found = [
        results.difference(first, other, design.main_set, metric)
        for other in rest
      ]
      if None not in found:
        compared += 1
        apart += all(f.interval.low > 0 for f in found)
    if not compared:
      return ""
    names = " and ".join(design.arms[other] for other in others)
    return (
      f"{design.arms[arm]} lies above {names}, each interval by itself clear "
      f"of 0, at {apart} of {compared} evaluations along {design.last_name}."
    )

  return remark


def share_of_gap(arm: str, teacher: Point, paper: str) -> Remark:
  """Says how much of the gap from the base to a teacher an arm closes.

  Args:
    arm: measured where it enters the last stage.
    teacher: what it is compared with.
    paper: what the paper's numbers give.
  """

  def remark(results: Results) -> str:
    design = results.design
    found = [
      results.mean(point, design.main_set, "accuracy")
      for point in (results.entry(arm), results.untrained, teacher)
    ]
    if None in found:
      return ""
    own, base, best = found
    if best <= base:
      return "The teacher is no better than the base."
    share = 100 * (own - base) / (best - base)
    return (
      f"{design.arms[arm]} closes {share:.0f} % of the gap between base and "
      f"teacher (the paper's numbers give {paper})."
    )

  return remark
