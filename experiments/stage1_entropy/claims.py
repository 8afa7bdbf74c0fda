"""The paper's claims and the rules that decide them.

A rule names differences and what must hold of their intervals (`verdicts`).
Claims, differences and margins were fixed before any run; numbers of the paper
are those of arXiv 2606.09059. Whoever changes a rule after having seen results
writes that beside it (`Claim.changed`). How often each rule errs is simulated
in `power`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from experiments.stage1_entropy.notes import Note
from jaxvlm.diagnostics import Interval
from jaxvlm.study.results import (
  NAMES,
  TEACHER,
  WARM_STARTS,
  Point,
  Policy,
  Results,
)
from jaxvlm.study.verdicts import (
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

# Why intervals were changed after results had been seen.
TOGETHER = (
  "the intervals were those of single differences over problems alone. Of "
  "studies with six equal policies, two in five failed C9, which asks fifteen "
  "of them; and runs that differ by chance passed for policies that differ"
)


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One difference, a − b, that a claim asks about.

  Attributes:
    label: the two policies.
    a: the first.
    b: what is taken from it.
    judge: what its interval must show, in points or nats.
    relative_to: the policy in shares of whose mean the judge thinks instead.
  """

  label: str
  a: Policy
  b: Policy
  judge: Judge
  relative_to: Policy | None = None

  def verdict(self, interval: Interval, level: float) -> Verdict:
    """Judges an interval; `level` is the mean of `relative_to`."""
    if self.relative_to is None:
      return self.judge(interval)
    return self.judge(Interval(*(value / level for value in interval)))


def _warm_against_sft(at: str, judge: Judge, relative: bool = False):
  """OPD minus each SFT arm, at RL entry or endpoint."""

  def comparisons(results: Results) -> list[Comparison]:
    where = getattr(results, at)
    return [
      Comparison(
        f"OPD − {NAMES[arm]}",
        where("opd"),
        where(arm),
        judge,
        where("opd") if relative else None,
      )
      for arm in ("sft_early", "sft_over")
    ]

  return comparisons


def _pairs(moments: Sequence[str]):
  """Every pair of warm starts, each at the named moments."""

  def comparisons(results: Results) -> list[Comparison]:
    policies = [
      (
        NAMES[arm] + (f", {moment}" if len(moments) > 1 else ""),
        getattr(results, moment)(arm),
      )
      for arm in WARM_STARTS
      for moment in moments
    ]
    return [
      Comparison(f"{first} − {second}", a, b, equal(MARGIN_POINTS))
      for index, (first, a) in enumerate(policies)
      for second, b in policies[index + 1 :]
    ]

  return comparisons


def _out_of_domain_after_stage1(results: Results) -> list[Comparison]:
  return [
    Comparison(
      f"{NAMES[arm]} − base", results.entry(arm), results.untrained, judge
    )
    for arm, judge in (("sft_over", below), ("sft_early", not_below))
  ]


def _against_teacher(results: Results) -> list[Comparison]:
  label = "OPD after Stage 1 − teacher"
  return [Comparison(label, results.entry("opd"), TEACHER, reaches)]


def _opd_entropy_change(results: Results) -> list[Comparison]:
  # The paper's curve begins at step 51 of 614 as well, not at the base model.
  steps = [s for s in results.steps("opd", "stage1", "in_domain") if s > 0]
  if len(steps) < 2:
    return []
  first, last = (Point("opd", "stage1", s) for s in (steps[0], steps[-1]))
  begin = results.mean(first, "in_domain", "entropy")
  label = f"OPD, step {last.step} − step {first.step} (there {begin:.3f} nats)"
  return [Comparison(label, last, first, equal(FLAT), first)]


def _gain_by_rl(results: Results) -> list[Comparison]:
  return [
    Comparison(
      f"{NAMES[arm]}, endpoint − entry",
      results.endpoint(arm),
      results.entry(arm),
      above(0.0),
    )
    for arm in (*WARM_STARTS, "base")
  ]


@dataclasses.dataclass(frozen=True)
class Claim:
  """A claim of the paper and how it is decided.

  Attributes:
    id: the name that notes refer to.
    text: the claim.
    paper: the paper's number.
    rule: when it counts as reproduced, in words.
    problem_set: where it is measured.
    metric: what is measured; pass@16 with as many samples as there are.
    comparisons: the differences it asks about.
    decide: verdict from the judged differences.
    claims_difference: whether it says that policies differ; else that they
      coincide.
    changed: what was changed in the rule after results had been seen.
  """

  id: str
  text: str
  paper: str
  rule: str
  problem_set: str
  metric: str
  comparisons: Callable[[Results], list[Comparison]]
  decide: Callable[[Sequence[Contrast]], Verdict] = every
  claims_difference: bool = True
  changed: str = (
    "Changed after results were seen: the intervals hold for all differences "
    "of the claim together and contain the scatter between runs."
  )

  def measured_as(self, results: Results) -> str:
    """Returns the metric with the largest k that there are samples for."""
    if self.metric == "pass@16":
      return f"pass@{results.top_k}"
    return self.metric


@dataclasses.dataclass(frozen=True)
class Finding:
  """A decided claim.

  Attributes:
    claim: what was decided.
    contrasts: the judged differences.
    verdict: of the claim.
    seeds: runs that the differences were taken over.
    note: what the numbers add, empty if nothing.
  """

  claim: Claim
  contrasts: Sequence[Contrast]
  verdict: Verdict
  seeds: int
  note: str

  @property
  def verdict_in_words(self) -> str:
    """The verdict, marked where it knows a single run."""
    undecided = (Verdict.NOT_MEASURED, Verdict.NO_VERDICT)
    one = self.seeds == 1 and self.verdict not in undecided
    return self.verdict.value + (" (one seed)" if one else "")


_ONE_CHANGED = (
  "Changed after results were seen: the interval contains the scatter between "
  "runs."
)

CLAIMS = (
  Claim(
    "C1",
    "On-policy distillation enters RL with substantially higher policy "
    "entropy than either SFT warm start.",
    "“substantially higher”; values not published",
    "Not reproduced if an interval lies below 0 or inside "
    f"±{100 * NEGLIGIBLE_SHARE:.0f} % of OPD's entropy; else reproduced if "
    "both lie above 0.",
    "in_domain",
    "entropy",
    _warm_against_sft("entry", above(NEGLIGIBLE_SHARE), relative=True),
  ),
  Claim(
    "C2",
    "The separation in entropy persists to the end of RL.",
    "“visible over the available trajectories”; values not published",
    "As C1, at the RL endpoint.",
    "in_domain",
    "entropy",
    _warm_against_sft("endpoint", above(NEGLIGIBLE_SHARE), relative=True),
  ),
  Claim(
    "C3",
    "At RL entry distillation has the higher in-domain pass@16.",
    "+2.0 points (uncertain) and +5.2 points",
    "Reproduced if both differences are positive and one interval lies above "
    f"0 and not inside ±{NEGLIGIBLE_POINTS:g} points; not reproduced if one "
    "lies below 0 or both inside that band.",
    "in_domain",
    "pass@16",
    _warm_against_sft("entry", above(NEGLIGIBLE_POINTS)),
    positive_and_one_clear,
  ),
  Claim(
    "C4",
    "After the same RL the accuracies of the three warm starts coincide.",
    "all in 53–54 %, within about 1 point",
    f"Reproduced if every pairwise interval lies inside ±{MARGIN_POINTS:g} "
    "points (our margin); not reproduced if one excludes 0 and its mean "
    "exceeds the margin.",
    "in_domain",
    "accuracy",
    _pairs(("endpoint",)),
    claims_difference=False,
  ),
  Claim(
    "C5",
    "After the same RL their in-domain pass@16 coincides.",
    "within 1.1 points",
    "As C4, for pass@16.",
    "in_domain",
    "pass@16",
    _pairs(("endpoint",)),
    claims_difference=False,
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
    "out_of_domain",
    "accuracy",
    _out_of_domain_after_stage1,
  ),
  Claim(
    "C7a",
    "Distillation alone reaches or passes its teacher.",
    "50.5 % (peak 51.1 %) against 49.3 %: +1.2 points",
    f"Reproduced if the interval begins above −{MARGIN_POINTS:g} points; not "
    f"reproduced if it lies below 0 with a mean beyond −{MARGIN_POINTS:g}.",
    "in_domain",
    "accuracy",
    _against_teacher,
    claims_difference=False,
    changed=_ONE_CHANGED,
  ),
  Claim(
    "C7b",
    "Entropy stays flat during distillation.",
    "0.119 nats at step 55, 0.115 at step 600 (range 0.114–0.141)",
    "Reproduced if the change from the first evaluation after step 0 to the "
    f"last lies inside ±{100 * FLAT:.0f} % of the first, the range of the "
    "paper's own curve; not reproduced if it excludes 0 and its mean exceeds "
    "that.",
    "in_domain",
    "entropy",
    _opd_entropy_change,
    claims_difference=False,
    changed=_ONE_CHANGED,
  ),
  Claim(
    "C8",
    "RL improves every arm, the untrained base too.",
    "base 37.8 → 47.8 %; OPD 50.5 → 54.2 %",
    "Reproduced if all intervals lie above 0; not reproduced if one lies "
    "below.",
    "in_domain",
    "accuracy",
    _gain_by_rl,
  ),
  Claim(
    "C9",
    "Out of domain, pass@16 hardly differs between the six models: three "
    "warm starts, before and after RL.",
    "within 1.2 points (MathVista)",
    "As C4, for out-of-domain pass@16 and the 15 pairs of six models.",
    "out_of_domain",
    "pass@16",
    _pairs(("entry", "endpoint")),
    claims_difference=False,
  ),
)


def contrasts(claim: Claim, results: Results) -> list[Contrast]:
  """Returns the claim's differences, judged; fractions become points."""
  metric, where = claim.measured_as(results), claim.problem_set
  unit, scale = ("nats", 1.0) if metric == "entropy" else ("points", 100.0)
  comparisons = claim.comparisons(results)
  found = results.differences([(c.a, c.b) for c in comparisons], where, metric)
  out = []
  for comparison, difference in zip(comparisons, found, strict=True):
    if difference is None:
      label, absent = comparison.label, Verdict.NOT_MEASURED
      out.append(Contrast(label, unit, None, {}, absent))
      continue
    interval = Interval(*(scale * value for value in difference.interval))
    of = comparison.relative_to
    level = scale * results.mean(of, where, metric) if of else 0.0
    per_seed = {seed: scale * v for seed, v in difference.per_seed.items()}
    verdict = comparison.verdict(interval, level)
    out.append(Contrast(comparison.label, unit, interval, per_seed, verdict))
  return out


def findings(
  results: Results, notes: Mapping[str, Note]
) -> tuple[Finding, ...]:
  """Decides every claim.

  Args:
    results: what was measured.
    notes: claim id -> explanation, printed where its numbers bear it out.

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
    judged = contrasts(claim, results)
    verdict = claim.decide(judged)
    if results.smoke_test and verdict is not Verdict.NOT_MEASURED:
      verdict = Verdict.NO_VERDICT
    parts = [_remark(claim.id, results)]
    if claim.id in notes and not results.smoke_test:
      parts.append(notes[claim.id](results, judged))
    decided.append(
      Finding(
        claim,
        judged,
        verdict,
        max((len(contrast.per_seed) for contrast in judged), default=0),
        " ".join(part for part in parts if part),
      )
    )
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
    results.mean(results.endpoint(arm), problem_set, metric)
    for arm in WARM_STARTS
  ]
  means = [mean for mean in found if mean is not None]
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
    f"OPD lies above both SFT arms, each interval by itself clear of 0, at "
    f"{apart} of {compared} evaluations along RL."
  )


def _share_of_gap(results: Results) -> str:
  found = [
    results.mean(point, "in_domain", "accuracy")
    for point in (results.entry("opd"), results.untrained, TEACHER)
  ]
  if None in found:
    return ""
  opd, base, teacher = found
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
    results.mean(Point("opd", "stage1", step), "in_domain", "entropy")
    for step in steps[:2]
  )
  return (
    f"Before that, from the base model to step {steps[1]}, it goes from "
    f"{base:.3f} to {first:.3f} nats; the paper's curve does not show this "
    "part."
  )
