"""The paper's claims and the rules that decide them, fixed before any run.

A rule names a contrast, an interval (95 %, paired bootstrap over problems) and
what must hold (`rules`). Numbers of the paper are those of arXiv 2606.09059.
Whoever changes a rule after having seen results writes that beside it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from experiments.stage1_entropy.results import (
  NAMES,
  TEACHER,
  WARM_STARTS,
  Point,
  Policy,
  Results,
)
from experiments.stage1_entropy.rules import (
  FLAT,
  MARGIN_POINTS,
  NEGLIGIBLE_POINTS,
  NEGLIGIBLE_SHARE,
  Contrast,
  Judge,
  Verdict,
  above,
  below,
  equal,
  every,
  not_below,
  positive_and_one_clear,
  reaches,
)
from jaxvlm.diagnostics import Interval


def contrast(
  results: Results,
  label: str,
  a: Policy,
  b: Policy,
  problem_set: str,
  metric: str,
  judge: Judge,
) -> Contrast:
  """Returns the judged difference of a and b; fractions become points."""
  unit, scale = ("nats", 1.0) if metric == "entropy" else ("points", 100.0)
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
        f"OPD − {NAMES[arm]}",
        where("opd"),
        where(arm),
        "in_domain",
        name,
        judge,
      )
      for arm in ("sft_early", "sft_over")
    ]

  return contrasts


def _entropy_above_sft(at: str):
  """OPD minus each SFT arm in entropy; the band is a share of OPD's."""

  def contrasts(results: Results) -> list[Contrast]:
    own = results.interval(getattr(results, at)("opd"), "in_domain", "entropy")
    band = NEGLIGIBLE_SHARE * own.mean if own else 0.0
    return _warm_against_sft("entropy", at, above(band))(results)

  return contrasts


def _pairs(metric: str, problem_set: str, moments: Sequence[str]):
  """Every pair of warm starts, each at the named moments."""

  def contrasts(results: Results) -> list[Contrast]:
    policies = [
      (NAMES[arm] + (f", {moment}" if len(moments) > 1 else ""), arm, moment)
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
      f"{NAMES[arm]} − base",
      results.entry(arm),
      results.untrained,
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
      f"{NAMES[arm]}, endpoint − entry",
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
    "Not reproduced if an interval lies below 0 or inside "
    f"±{100 * NEGLIGIBLE_SHARE:.0f} % of OPD's entropy; else reproduced if "
    "both lie above 0.",
    _entropy_above_sft("entry"),
  ),
  Claim(
    "C2",
    "The separation in entropy persists to the end of RL.",
    "“visible over the available trajectories”; values not published",
    "As C1, at the RL endpoint.",
    _entropy_above_sft("endpoint"),
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
    "early-stopped one is not below 0 and begins above "
    f"−{MARGIN_POINTS:g} points; not reproduced if the over-trained one lies "
    f"above 0 or inside ±{MARGIN_POINTS:g} points with 0 in it, or the "
    "early-stopped one lies below 0.",
    _out_of_domain_after_stage1,
  ),
  Claim(
    "C7a",
    "Distillation alone reaches or passes its teacher.",
    "50.5 % (peak 51.1 %) against 49.3 %: +1.2 points",
    f"Reproduced if the interval begins above −{MARGIN_POINTS:g} points; not "
    f"reproduced if it lies below 0 with a mean beyond −{MARGIN_POINTS:g}.",
    _against_teacher,
  ),
  Claim(
    "C7b",
    "Entropy stays flat during distillation.",
    "0.119 nats at step 55, 0.115 at step 600 (range 0.114–0.141)",
    "Reproduced if the change from the first evaluation after step 0 to the "
    f"last lies inside ±{100 * FLAT:.0f} % of the first, the range of the "
    "paper's own curve; not reproduced if it excludes 0 and its mean exceeds "
    "that.",
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


def findings(results: Results, notes: Mapping[str, str]) -> tuple[Finding, ...]:
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
  remarks = {
    "C2": (_evaluations_apart,),
    "C3": (_samples_short,),
    "C4": (lambda r: _end_of_scale(r, "in_domain", "accuracy"),),
    "C5": (
      _samples_short,
      lambda r: _end_of_scale(r, "in_domain", f"pass@{r.top_k}"),
    ),
    "C7a": (_share_of_gap,),
    "C7b": (_change_from_base,),
    "C9": (
      _samples_short,
      lambda r: _end_of_scale(r, "out_of_domain", f"pass@{r.top_k}"),
    ),
  }.get(claim, ())
  return " ".join(text for remark in remarks if (text := remark(results)))


def _samples_short(results: Results) -> str:
  if results.top_k >= 16:
    return ""
  return f"Too few samples for pass@16 here: decided on pass@{results.top_k}."


def _end_of_scale(results: Results, problem_set: str, metric: str) -> str:
  """Warns where policies coincide because the scale ends there."""
  found = [
    results.interval(results.endpoint(arm), problem_set, metric)
    for arm in WARM_STARTS
  ]
  means = [interval.mean for interval in found if interval]
  if means and (min(means) > 0.95 or max(means) < 0.05):
    return (
      f"All arms end between {100 * min(means):.1f} and "
      f"{100 * max(means):.1f} %: so near the end of the scale that they "
      "coincide whatever the claim says."
    )
  return ""


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
    for point in (results.entry("opd"), results.untrained, TEACHER)
  ]
  if None in found:
    return ""
  opd, base, teacher = (interval.mean for interval in found)
  if teacher <= base:
    return "The teacher is no better than the base."
  return (
    f"OPD closes {100 * (opd - base) / (teacher - base):.0f} % of the gap "
    "between base and teacher (the paper's numbers give 110 %)."
  )


def _change_from_base(results: Results) -> str:
  steps = results.steps("opd", "stage1", "in_domain")
  if len(steps) < 2 or steps[0] != 0:
    return ""
  base, first = (
    results.interval(Point("opd", "stage1", step), "in_domain", "entropy").mean
    for step in steps[:2]
  )
  return (
    f"Before that, from the base model to step {steps[1]}, it goes from "
    f"{base:.3f} to {first:.3f} nats; the paper's curve does not show this "
    "part."
  )
