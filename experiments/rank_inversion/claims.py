"""The paper's claims and the rules that decide them.

Claims, differences and margins were fixed before any run; numbers of the paper
are those of arXiv 2606.18487 for Qwen2.5-Coder-3B (weak) and
DeepSeek-Coder-6.7B (strong). Margins are ours.
"""

from collections.abc import Mapping

from experiments.rank_inversion.design import (
  DEEP,
  HOT,
  KL_DEEP,
  KL_SHALLOW,
  SHALLOW,
  SMOOTH,
  Arm,
  ladder,
)
from jaxvlm.study import claims
from jaxvlm.study.claims import Claim, Comparison
from jaxvlm.study.design import Peak, Policy
from jaxvlm.study.results import Results
from jaxvlm.study.verdicts import Judge, above, below, equal, not_below

# What is no difference: of accuracies and pass@k, in points.
NEGLIGIBLE_POINTS = 1.0
# The paper calls .897 to .932 "flat", 3.5 points of 40 problems.
MARGIN_POINTS = 10.0
# Within a tenth of its own size an entropy is not another.
NEGLIGIBLE_SHARE = 0.1

_SHALLOW, _DEEP = Arm("weak", SHALLOW), Arm("weak", DEEP)
_STRONG = Arm("strong", SHALLOW), Arm("strong", DEEP)

PREFACE = (
  "Claims, differences and margins were written down before any run on the "
  "problems that are reported."
)


def peak(arm: Arm) -> Peak:
  """Returns the best policy of an arm's RL."""
  return Peak(arm.name, "grpo")


def _peaks(first: Arm, second: Arm, judge: Judge):
  return lambda results: [
    Comparison(
      f"{_words(results, first)} − {_words(results, second)}, peak",
      peak(first),
      peak(second),
      judge,
    )
  ]


def _words(results: Results, arm: Arm) -> str:
  return results.design.arms[arm.name]


def _shallow_minus_deep(at: str):
  def comparisons(results: Results) -> list[Comparison]:
    of = getattr(results, at)
    a, b = of(_SHALLOW.name), of(_DEEP.name)
    label = f"{_words(results, _SHALLOW)} − {_words(results, _DEEP)}"
    return [Comparison(label, a, b, above(NEGLIGIBLE_SHARE), a)]

  return comparisons


def _gain_before_rl(results: Results) -> list[Comparison]:
  a, b = results.entry(_DEEP.name), results.entry(_SHALLOW.name)
  label = f"{_words(results, _DEEP)} − {_words(results, _SHALLOW)}"
  return [Comparison(label, a, b, above(NEGLIGIBLE_POINTS))]


def _entries(results: Results) -> list[Comparison]:
  entries = {
    _words(results, arm): results.entry(arm.name)
    for arm in ladder("weak")
    if arm.name in results.arms
  }
  return claims.pairs(entries, equal(MARGIN_POINTS))


def _by_rl(judge: Judge, *arms: Arm):
  return lambda results: [
    Comparison(
      f"{_words(results, arm)}, endpoint − entry",
      results.endpoint(arm.name),
      results.entry(arm.name),
      judge,
    )
    for arm in arms
  ]


def _at(at: str, arm: Arm, offset: float):
  """Returns an effect: one policy lies apart from the others."""

  def effect(results: Results) -> Mapping[Policy, float]:
    policy = peak(arm) if at == "peak" else getattr(results, at)(arm.name)
    return {policy: offset}

  return effect


# What the world was tuned for: no finding of ours.
PRECONDITIONS = (
  Claim(
    id="P1",
    text="Entropy before RL falls with the depth of SFT.",
    paper="0.227 nats after 1.0 epochs, 0.120 after 5.8: a share of 0.47",
    rule="Holds if the interval lies above 0 and not inside "
    f"±{100 * NEGLIGIBLE_SHARE:.0f} % of the shallow one.",
    problem_set="hard",
    metric="entropy",
    comparisons=_shallow_minus_deep("entry"),
  ),
  Claim(
    id="P2",
    text="RL moves the shallow checkpoint.",
    paper="not stated; pass@10 of .726 at step 50, .806 at its peak",
    rule="Holds if the interval of its gain in pass@1 lies above 0.",
    problem_set="hard",
    metric="accuracy",
    comparisons=_by_rl(above(0.0), _SHALLOW),
  ),
)

CLAIMS = (
  Claim(
    id="R1",
    text="Deeper SFT enters RL with a higher pass@1.",
    paper=".151 after 1.0 epochs, .187 after 5.8: +3.6 points",
    rule="Reproduced if the interval lies above 0; not reproduced if it lies "
    f"below 0 or inside ±{NEGLIGIBLE_POINTS:g} point.",
    problem_set="hard",
    metric="accuracy",
    comparisons=_gain_before_rl,
    effect=_at("entry", _DEEP, 3.6),
  ),
  Claim(
    id="R2",
    text="Before RL pass@64 is flat over the ladder.",
    paper=".897 to .932",
    rule=f"Reproduced if every pairwise interval lies inside ±{MARGIN_POINTS:g}"
    " points; not reproduced if one excludes 0 and its mean exceeds that.",
    problem_set="deep",
    metric="pass@64",
    comparisons=_entries,
    claims_difference=False,
    effect=_at("entry", _DEEP, 0.0),
  ),
  Claim(
    id="R3",
    text="After the same RL the order is inverted: the shallowest SFT has the "
    "higher peak pass@10.",
    paper=".806 after 1.0 epochs, .481 after 5.8: 32.5 points",
    rule="Reproduced if the interval lies above 0; not reproduced if it lies "
    f"below 0 or inside ±{NEGLIGIBLE_POINTS:g} point.",
    problem_set="hard",
    metric="pass@10",
    comparisons=_peaks(_SHALLOW, _DEEP, above(NEGLIGIBLE_POINTS)),
    effect=_at("peak", _DEEP, -32.5),
  ),
  Claim(
    id="R4",
    text="RL from the deepest SFT loses pass@10.",
    paper=".700 before, .553 after: −14.8 points",
    rule="Reproduced if the interval lies below 0; not reproduced if it lies "
    f"above 0 or inside ±{NEGLIGIBLE_POINTS:g} point.",
    problem_set="deep",
    metric="pass@10",
    comparisons=_by_rl(below(NEGLIGIBLE_POINTS), _DEEP),
    effect=_at("endpoint", _DEEP, -14.8),
  ),
  Claim(
    id="R5",
    text="The order of entropies persists to the end of RL.",
    paper="ratio of 1.0 to 5.8 epochs: 4.3 at step 10, 12.3 at step 400",
    rule="Reproduced if the interval lies above 0; not reproduced if it lies "
    f"below 0 or inside ±{100 * NEGLIGIBLE_SHARE:.0f} % of the shallow one's "
    "entropy.",
    problem_set="hard",
    metric="entropy",
    comparisons=_shallow_minus_deep("endpoint"),
    effect=_at("endpoint", _DEEP, -0.5),
  ),
  Claim(
    id="R6",
    text="With headroom (the strong coder) there is no inversion: the deepest "
    "SFT peaks no lower.",
    paper=".861 after 1.0 epochs, .888 after 5.8: +2.7 points",
    rule=f"Reproduced if the interval begins above −{MARGIN_POINTS:g} points; "
    "not reproduced if it lies below 0.",
    problem_set="hard",
    metric="pass@10",
    comparisons=_peaks(_STRONG[1], _STRONG[0], not_below(MARGIN_POINTS)),
    claims_difference=False,
    effect=_at("peak", _STRONG[1], 2.7),
  ),
  Claim(
    id="R7",
    text="With headroom RL loses no pass@10 from any depth.",
    paper="+0.3, +2.4, +1.7, +2.1 points",
    rule=f"Reproduced if every interval begins above −{MARGIN_POINTS:g} points;"
    " not reproduced if one lies below 0.",
    problem_set="deep",
    metric="pass@10",
    comparisons=_by_rl(not_below(MARGIN_POINTS), *_STRONG),
    claims_difference=False,
    effect=_at("endpoint", _STRONG[1], 2.1),
  ),
  Claim(
    id="R8",
    text="A KL term does not rescue: neither depth peaks higher with it.",
    paper=".684 against .824 (1.0 epochs), .461 against .527 (5.8)",
    rule="Reproduced if both intervals, without minus with, begin above "
    f"−{MARGIN_POINTS:g} points; not reproduced if one lies below 0.",
    problem_set="hard",
    metric="pass@10",
    comparisons=lambda results: [
      *_peaks(_SHALLOW, KL_SHALLOW, not_below(MARGIN_POINTS))(results),
      *_peaks(_DEEP, KL_DEEP, not_below(MARGIN_POINTS))(results),
    ],
    claims_difference=False,
    effect=lambda results: {peak(KL_SHALLOW): -14.0, peak(KL_DEEP): -6.6},
  ),
  Claim(
    id="R9",
    text="Label smoothing in SFT does not rescue: its peak is the lowest.",
    paper=".214 against .527 (5.8 epochs): −31.3 points",
    rule="Reproduced if the interval, without minus with, lies above 0; not "
    f"reproduced if it lies below 0 or inside ±{NEGLIGIBLE_POINTS:g} point.",
    problem_set="hard",
    metric="pass@10",
    comparisons=_peaks(_DEEP, SMOOTH, above(NEGLIGIBLE_POINTS)),
    effect=_at("peak", SMOOTH, -31.3),
  ),
  Claim(
    id="R10",
    text="Entropy counts at a fixed depth too (ours: a control): the deepest "
    "checkpoint peaks higher with hotter rollouts.",
    paper="not measured: there depth drives entropy and all else at once",
    rule="Holds if the interval lies above 0; does not if it lies below 0 or "
    f"inside ±{NEGLIGIBLE_POINTS:g} point.",
    problem_set="hard",
    metric="pass@10",
    comparisons=_peaks(HOT, _DEEP, above(NEGLIGIBLE_POINTS)),
  ),
)
