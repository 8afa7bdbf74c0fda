"""Explanations of verdicts, written after the runs of the laptop study.

A note is a function of the results: it says nothing unless its own condition,
computed from them, holds, and takes its numbers from them. What it adds beyond
numbers is a conjecture and says so.
"""

from collections.abc import Mapping, Sequence

from experiments.stage1_entropy.design import NAMES, TEACHER, WARM_STARTS
from jaxvlm.study.claims import Note
from jaxvlm.study.results import Results
from jaxvlm.study.verdicts import Contrast


def _shares(results: Results) -> dict[str, float]:
  """Returns the share of RL groups without a gradient, over steps and seeds."""
  found = {
    arm: results.logged_mean(arm, "grpo", "reward/degenerate_groups")
    for arm in WARM_STARTS
  }
  return {arm: share for arm, share in found.items() if share is not None}


def _listed(shares: Mapping[str, float]) -> str:
  return ", ".join(
    f"{100 * share:.0f} % ({NAMES[arm]})" for arm, share in shares.items()
  )


def opd_ends_higher(results: Results, contrasts: Sequence[Contrast]) -> str:
  """C4: OPD above an SFT arm, whose groups are more often degenerate."""
  shares = _shares(results)
  clear = [
    c.label
    for c in contrasts
    if c.label.startswith("OPD") and c.interval and c.interval.low > 0
  ]
  if not clear or len(shares) < len(WARM_STARTS):
    return ""
  if shares["opd"] >= min(shares["sft_early"], shares["sft_over"]):
    return ""
  return (
    f"{' and '.join(clear)}: above 0. The same number of RL steps was not the "
    "same amount of signal: groups with equal rewards, which have no gradient, "
    f"make up {_listed(shares)} (figure “Degenerate groups”). That this is the "
    "cause is a conjecture."
  )


def lost_and_not_found(results: Results, contrasts: Sequence[Contrast]) -> str:
  """C5: over-trained SFT loses pass@k in Stage 1 and stays below the base."""
  metric = f"pass@{results.top_k}"
  before, after = (
    results.difference(policy, results.untrained, "in_domain", metric)
    for policy in (results.entry("sft_over"), results.endpoint("sft_over"))
  )
  if before is None or after is None:
    return ""
  if before.interval.high >= 0 or after.interval.high >= 0:
    return ""
  return (
    f"Over-trained SFT loses {-100 * before.interval.mean:.1f} points of "
    f"{metric} against the base in Stage 1, and after RL it is still "
    f"{-100 * after.interval.mean:.1f} below: as if what a policy never "
    "samples could not be rewarded (a conjecture)."
  )


def little_to_lose(results: Results, contrasts: Sequence[Contrast]) -> str:
  """C6: no damage found where the base is near the floor."""
  base = results.mean(results.untrained, "out_of_domain", "accuracy")
  damaged = any(
    c.label.startswith(NAMES["sft_over"]) and c.interval and c.interval.high < 0
    for c in contrasts
  )
  if base is None or base > 0.2 or damaged:
    return ""
  return (
    f"The base is right on {100 * base:.0f} % of these problems: near the "
    "floor there is little to lose."
  )


def far_from_teacher(results: Results, contrasts: Sequence[Contrast]) -> str:
  """C7a: the teacher is not reached, and began farther away."""
  base, teacher = (
    results.mean(policy, "in_domain", "accuracy")
    for policy in (results.untrained, TEACHER)
  )
  reached = any(c.interval and c.interval.high >= 0 for c in contrasts)
  if base is None or teacher is None or not contrasts or reached:
    return ""
  gap = 100 * (teacher - base)
  if gap < 20:
    return ""
  return (
    "The paper's student starts 11.5 points below its teacher, this one "
    f"{gap:.0f}."
  )


def too_few_gradients(results: Results, contrasts: Sequence[Contrast]) -> str:
  """C8: arms without a clear gain, most of whose groups are degenerate."""
  shares = _shares(results)
  stuck = {
    arm: shares[arm]
    for arm in WARM_STARTS
    for c in contrasts
    if c.label.startswith(f"{NAMES[arm]},")
    and c.interval
    and c.interval.low <= 0
    and shares.get(arm, 0.0) > 0.5
  }
  if not stuck:
    return ""
  return (
    f"In {_listed(stuck)} of the groups all rewards are equal and give no "
    f"gradient: {results.last_step} steps are then few."
  )


def too_few_problems(results: Results, contrasts: Sequence[Contrast]) -> str:
  """C9: intervals that cannot resolve the paper's 1.2 points."""
  halves = [
    (c.interval.high - c.interval.low) / 2 for c in contrasts if c.interval
  ]
  size = results.problems("out_of_domain")
  if not halves or max(halves) < 2 * 1.2:
    return ""
  return (
    f"{size} problems and {len(results.seeds)} "
    f"{'seed' if len(results.seeds) == 1 else 'seeds'} give intervals of up to "
    f"±{max(halves):.1f} points: the paper's 1.2 cannot be resolved here."
  )


NOTES: dict[str, Note] = {
  "C4": opd_ends_higher,
  "C5": lost_and_not_found,
  "C6": little_to_lose,
  "C7a": far_from_teacher,
  "C8": too_few_gradients,
  "C9": too_few_problems,
}
