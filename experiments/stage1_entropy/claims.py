"""The paper's claims and the rules that decide them, fixed before any run.

A rule names a contrast, an interval (95 %, paired bootstrap over problems) and
what must hold. Numbers of the paper are those of arXiv 2606.09059; margins are
ours, wide enough for a few hundred problems of a laptop. Whoever changes a
rule after having seen results writes that beside it.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence

from experiments.stage1_entropy.results import (
  TEACHER,
  UNTRAINED,
  WARM_STARTS,
  Point,
  Results,
)
from jaxvlm.diagnostics import Interval

# Ours. The paper speaks of "within about one point" on 601 problems; a few
# hundred problems leave intervals of some ±4 points.
MARGIN_POINTS = 5.0
# Ours: the smaller of the paper's two contrasts in pass@16 at RL entry.
NEGLIGIBLE_POINTS = 2.0
# Ours: below a tenth of the paper's 0.12 nats no entropy is "substantially
# higher" than another.
NEGLIGIBLE_NATS = 0.01
# Ours: the paper's own "flat" curve moves from 0.119 over 0.141 to 0.115
# nats, a range of 22 % of its start.
FLAT = 0.22

SHORT = {
  "opd": "OPD",
  "sft_early": "early SFT",
  "sft_over": "over-trained SFT",
  "base": "base",
}


class Verdict(enum.Enum):
  """What an interval says of a claim."""

  REPRODUCED = "reproduced"
  NOT_REPRODUCED = "not reproduced"
  INCONCLUSIVE = "inconclusive"
  NOT_MEASURED = "not measured"


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


def contrast(
  results: Results,
  label: str,
  a: Point,
  b: Point,
  problem_set: str,
  metric: str,
  judge: Judge,
) -> Contrast:
  """Returns the judged difference of a and b; fractions become points."""
  unit, scale = {
    "entropy": ("nats", 1.0),
    "distinct_answers": ("answers", 1.0),
  }.get(metric, ("points", 100.0))
  found = results.difference(a, b, problem_set, metric)
  if found is None:
    return Contrast(label, unit, None, {}, Verdict.NOT_MEASURED)
  interval = Interval(*(scale * value for value in found.interval))
  per_seed = {seed: scale * value for seed, value in found.per_seed.items()}
  return Contrast(label, unit, interval, per_seed, judge(interval))


def _warm_against_sft(metric: str, at: str, judge: Judge):
  """OPD minus each SFT arm, at RL entry or endpoint."""

  def contrasts(results: Results) -> list[Contrast]:
    where = getattr(results, at)
    name = _name(results, metric)
    return [
      contrast(
        results,
        f"OPD − {SHORT[arm]}",
        where("opd"),
        where(arm),
        "in_domain",
        name,
        judge,
      )
      for arm in ("sft_early", "sft_over")
    ]

  return contrasts


def _pairs(metric: str, problem_set: str, moments: Sequence[str]):
  """Every pair of warm starts, each at the named moments."""

  def contrasts(results: Results) -> list[Contrast]:
    policies = [
      (SHORT[arm] + (f", {moment}" if len(moments) > 1 else ""), arm, moment)
      for arm in WARM_STARTS
      for moment in moments
    ]
    return [
      contrast(
        results,
        f"{first} − {second}",
        getattr(results, at)(a),
        getattr(results, other)(b),
        problem_set,
        _name(results, metric),
        equal(MARGIN_POINTS),
      )
      for index, (first, a, at) in enumerate(policies)
      for second, b, other in policies[index + 1 :]
    ]

  return contrasts


def _out_of_domain_after_stage1(results: Results) -> list[Contrast]:
  return [
    contrast(
      results,
      f"{SHORT[arm]} − base",
      results.entry(arm),
      UNTRAINED,
      "out_of_domain",
      "accuracy",
      judge,
    )
    for arm, judge in (("sft_over", below), ("sft_early", not_below))
  ]


def _against_teacher(results: Results) -> list[Contrast]:
  return [
    contrast(
      results,
      "OPD after Stage 1 − teacher",
      results.entry("opd"),
      TEACHER,
      "in_domain",
      "accuracy",
      reaches,
    )
  ]


def _opd_entropy_change(results: Results) -> list[Contrast]:
  # The paper's curve begins at step 51 of 614 as well, not at the base model.
  steps = [s for s in results.steps("opd", "stage1", "in_domain") if s > 0]
  if len(steps) < 2:
    label = "OPD, end − begin of Stage 1"
    return [Contrast(label, "nats", None, {}, Verdict.NOT_MEASURED)]
  first, last = (Point("opd", "stage1", s) for s in (steps[0], steps[-1]))
  begin = results.interval(first, "in_domain", "entropy").mean
  return [
    contrast(
      results,
      f"OPD, step {last.step} − step {first.step} (there {begin:.3f} nats)",
      last,
      first,
      "in_domain",
      "entropy",
      equal(FLAT * begin),
    )
  ]


def _gain_by_rl(results: Results) -> list[Contrast]:
  return [
    contrast(
      results,
      f"{SHORT[arm]}, endpoint − entry",
      results.endpoint(arm),
      results.entry(arm),
      "in_domain",
      "accuracy",
      above(0.0),
    )
    for arm in (*WARM_STARTS, "base")
  ]


def _name(results: Results, metric: str) -> str:
  """Returns the metric, pass@16 with as many samples as there are."""
  return f"pass@{results.top_k}" if metric == "pass@16" else metric


@dataclasses.dataclass(frozen=True)
class Claim:
  """A claim of the paper and how it is decided.

  Attributes:
    id: the name that notes refer to.
    text: the claim.
    paper: the paper's number.
    rule: when it counts as reproduced, in words.
    contrasts: the judged differences.
    decide: verdict from the contrasts.
  """

  id: str
  text: str
  paper: str
  rule: str
  contrasts: Callable[[Results], list[Contrast]]
  decide: Callable[[Sequence[Contrast]], Verdict] = every


@dataclasses.dataclass(frozen=True)
class Finding:
  """A decided claim, with a note that explains it where there is one."""

  claim: Claim
  contrasts: Sequence[Contrast]
  verdict: Verdict
  note: str


CLAIMS = (
  Claim(
    "C1",
    "On-policy distillation enters RL with substantially higher policy "
    "entropy than either SFT warm start.",
    "“substantially higher”; values not published",
    f"Reproduced if both intervals lie above 0; not reproduced if one lies "
    f"below 0 or inside ±{NEGLIGIBLE_NATS} nats.",
    _warm_against_sft("entropy", "entry", above(NEGLIGIBLE_NATS)),
  ),
  Claim(
    "C2",
    "The separation in entropy persists to the end of RL.",
    "“visible over the available trajectories”; values not published",
    "As C1, at the RL endpoint.",
    _warm_against_sft("entropy", "endpoint", above(NEGLIGIBLE_NATS)),
  ),
  Claim(
    "C3",
    "At RL entry distillation has the higher in-domain pass@16.",
    "+2.0 points (uncertain) and +5.2 points",
    "Reproduced if both differences are positive and one interval lies above "
    f"0 and not inside ±{NEGLIGIBLE_POINTS:g} points; not reproduced if one "
    "lies below 0 or both inside that band.",
    _warm_against_sft("pass@16", "entry", above(NEGLIGIBLE_POINTS)),
    positive_and_one_clear,
  ),
  Claim(
    "C4",
    "After the same RL the accuracies of the three warm starts coincide.",
    "all in 53–54 %, within about 1 point",
    f"Reproduced if every pairwise interval lies inside ±{MARGIN_POINTS:g} "
    "points (our margin); not reproduced if one excludes 0 and its mean "
    "exceeds the margin.",
    _pairs("accuracy", "in_domain", ("endpoint",)),
  ),
  Claim(
    "C5",
    "After the same RL their in-domain pass@16 coincides.",
    "within 1.1 points",
    "As C4, for pass@16.",
    _pairs("pass@16", "in_domain", ("endpoint",)),
  ),
  Claim(
    "C6",
    "Over-trained SFT damages the out-of-domain score, early-stopped SFT "
    "does not.",
    "−9.5 points; +2.1 points (MathVista, against the base)",
    "Reproduced if the over-trained interval lies below 0 and the "
    "early-stopped one is not below 0 and ends above "
    f"−{MARGIN_POINTS:g} points; not reproduced if the over-trained one lies "
    f"above 0 or inside ±{MARGIN_POINTS:g} points with 0 in it, or the "
    "early-stopped one lies below 0.",
    _out_of_domain_after_stage1,
  ),
  Claim(
    "C7a",
    "Distillation alone reaches or passes its teacher.",
    "50.5 % (peak 51.1 %) against 49.3 %: +1.2 points",
    f"Reproduced if the interval ends above −{MARGIN_POINTS:g} points; not "
    f"reproduced if it lies below 0 with a mean beyond −{MARGIN_POINTS:g}.",
    _against_teacher,
  ),
  Claim(
    "C7b",
    "Entropy stays flat during distillation.",
    "0.119 nats at step 55, 0.115 at step 600 (range 0.114–0.141)",
    "Reproduced if the change from the first evaluation after step 0 to the "
    f"last lies inside ±{FLAT:.0%} of the first, the range of the paper's own "
    "curve; not reproduced if it excludes 0 and its mean exceeds that.",
    _opd_entropy_change,
  ),
  Claim(
    "C8",
    "RL improves every arm, the untrained base too.",
    "base 37.8 → 47.8 %; OPD 50.5 → 54.2 %",
    "Reproduced if all intervals lie above 0; not reproduced if one lies "
    "below.",
    _gain_by_rl,
  ),
  Claim(
    "C9",
    "Out of domain, pass@16 hardly differs between the six models: three "
    "warm starts, before and after RL.",
    "within 1.2 points (MathVista)",
    "As C4, for out-of-domain pass@16 and the 15 pairs of six models.",
    _pairs("pass@16", "out_of_domain", ("entry", "endpoint")),
  ),
)


def findings(
  results: Results, notes: Mapping[str, str]
) -> tuple[Finding, ...]:
  """Decides every claim.

  Args:
    results: what was measured.
    notes: claim id -> explanation to print with it.

  Raises:
    ValueError: a note names no claim.
  """
  unknown = sorted(set(notes) - {claim.id for claim in CLAIMS})
  if unknown:
    raise ValueError(
      f"notes: got {unknown}, expected claims among "
      f"{[claim.id for claim in CLAIMS]}"
    )
  decided = []
  for claim in CLAIMS:
    contrasts = claim.contrasts(results)
    note = " ".join(
      part
      for part in (_remark(claim.id, results), notes.get(claim.id, ""))
      if part
    )
    decided.append(Finding(claim, contrasts, claim.decide(contrasts), note))
  return tuple(decided)


def _remark(claim: str, results: Results) -> str:
  """Returns what the numbers add to a verdict."""
  remark = {
    "C2": _evaluations_apart,
    "C7a": _share_of_gap,
    "C7b": _change_from_base,
  }.get(claim)
  return remark(results) if remark else ""


def _evaluations_apart(results: Results) -> str:
  steps = results.steps("opd", "grpo", "in_domain")
  apart = compared = 0
  for step in steps:
    found = [
      results.difference(
        Point("opd", "grpo", step),
        Point(arm, "grpo", step),
        "in_domain",
        "entropy",
      )
      for arm in ("sft_early", "sft_over")
    ]
    if None in found:
      continue
    compared += 1
    apart += all(f.interval.low > 0 for f in found)
  if not compared:
    return ""
  return (
    f"OPD lies above both SFT arms, intervals clear of 0, at {apart} of "
    f"{compared} evaluations along RL."
  )


def _share_of_gap(results: Results) -> str:
  found = [
    results.interval(point, "in_domain", "accuracy")
    for point in (results.entry("opd"), UNTRAINED, TEACHER)
  ]
  if None in found:
    return ""
  opd, base, teacher = (interval.mean for interval in found)
  if teacher <= base:
    return "The teacher is no better than the base."
  return (
    f"OPD closes {(opd - base) / (teacher - base):.0%} of the gap between "
    "base and teacher (the paper's numbers give 110 %)."
  )


def _change_from_base(results: Results) -> str:
  steps = results.steps("opd", "stage1", "in_domain")
  if len(steps) < 2 or steps[0] != 0:
    return ""
  base, first = (
    results.interval(
      Point("opd", "stage1", step), "in_domain", "entropy"
    ).mean
    for step in steps[:2]
  )
  return (
    f"Before that, from the base model to step {steps[1]}, it goes from "
    f"{base:.3f} to {first:.3f} nats; the paper's curve does not show this "
    "part."
  )
