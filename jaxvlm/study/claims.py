"""Claims and how they are decided.

A claim names differences and what must hold of their intervals (`verdicts`).
Claims, differences and margins belong before the runs; whoever changes a rule
after having seen results writes that beside it (`Claim.changed`).
"""

import dataclasses
import itertools
import types
from collections.abc import Callable, Mapping, Sequence

from jaxvlm.diagnostics import Interval
from jaxvlm.study import results as results_lib
from jaxvlm.study.design import Policy
from jaxvlm.study.results import Results
from jaxvlm.study.verdicts import Contrast, Judge, Verdict, every

# What the numbers add to a verdict; empty where they add nothing.
Remark = Callable[[Results], str]
# The same, written after the runs; empty where the numbers do not bear it out.
Note = Callable[[Results, Sequence[Contrast]], str]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One difference, a − b, that a claim asks about.

  Attributes:
    label: the two policies.
    a: the first.
    b: what is taken from it.
    judge: what its interval must show, in the metric's unit.
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


def pairs(policies: Mapping[str, Policy], judge: Judge) -> list[Comparison]:
  """Returns every pair of policies by name, the earlier minus the later."""
  return [
    Comparison(f"{first} − {second}", a, b, judge)
    for (first, a), (second, b) in itertools.combinations(policies.items(), 2)
  ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
  """A claim of a paper and how it is decided.

  Attributes:
    id: the name that notes refer to.
    text: the claim.
    paper: the paper's number.
    rule: when it counts as reproduced, in words.
    problem_set: where it is measured.
    metric: what is measured; pass@k with as many samples as there are.
    comparisons: the differences it asks about.
    decide: verdict from the judged differences.
    claims_difference: whether it says that policies differ; else that they
      coincide.
    effect: policy -> how far it lies from a common mean if the claim is true,
      in points (entropies: in shares of that mean; changes of log-probability:
      in nats), for `power`; None: not simulated.
    remarks: what the numbers add to the verdict.
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
  effect: Callable[[Results], Mapping[Policy, float]] | None = None
  remarks: tuple[Remark, ...] = ()
  changed: str = ""


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


def contrasts(claim: Claim, results: Results) -> list[Contrast]:
  """Returns the claim's differences, judged; fractions become points."""
  metric = results.measured_as(claim.metric, claim.problem_set)
  unit, scale, _ = results_lib.unit(metric)
  comparisons, where = claim.comparisons(results), claim.problem_set
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
  results: Results,
  claims: Sequence[Claim],
  notes: Mapping[str, Note] = types.MappingProxyType({}),
) -> tuple[Finding, ...]:
  """Decides every claim.

  Args:
    results: what was measured.
    claims: what to decide.
    notes: claim id -> explanation, printed where its numbers bear it out.

  Raises:
    ValueError: a note names no claim.
  """
  known = [claim.id for claim in claims]
  unknown = sorted(set(notes) - set(known))
  if unknown:
    raise ValueError(f"notes: got {unknown}, expected claims among {known}")
  decided = []
  for claim in claims:
    judged = contrasts(claim, results)
    verdict = claim.decide(judged)
    if results.smoke_test and verdict is not Verdict.NOT_MEASURED:
      verdict = Verdict.NO_VERDICT
    parts = [
      _fewer_samples(claim, results),
      *(remark(results) for remark in claim.remarks),
    ]
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


def _fewer_samples(claim: Claim, results: Results) -> str:
  metric = results.measured_as(claim.metric, claim.problem_set)
  if metric == claim.metric:
    return ""
  return f"Too few samples for {claim.metric} here: decided on {metric}."
