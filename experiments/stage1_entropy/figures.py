"""The study's figures: which curves stand beside which, in the arms' colors.

Curves of evaluations have a band from the bootstrap over problems alone, for
two or three seeds say next to nothing about a band of runs; curves of the
journal are means over seeds, with the raw series faint behind a running mean.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxvlm.eval import figures
from jaxvlm.eval.figures import Curve, Level, Style
from jaxvlm.study.results import (
  ARMS,
  KS,
  NAMES,
  TEACHER,
  WARM_STARTS,
  Point,
  Results,
)

# After Okabe and Ito, with a darker red and a lighter gray: the two closest are
# 31 apart in CIELAB to protan, deutan and tritan eyes. Markers and dashes say
# the same in black and white.
ARM_STYLES = {
  "opd": Style(NAMES["opd"], "#0072B2", "o"),
  "sft_early": Style(NAMES["sft_early"], "#E69F00", "s"),
  "sft_over": Style(NAMES["sft_over"], "#B5420A", "^"),
  "base": Style(NAMES["base"], "#8A8A8A", "D", "--"),
}

_ENTROPY = "full-vocabulary entropy of\ncompletion tokens, nats ({})"
_SETS = {"in_domain": "in-domain", "out_of_domain": "out-of-domain"}


@dataclasses.dataclass(frozen=True)
class Gallery:
  """Panels that belong together; name -> PNG."""

  title: str
  caption: str
  pictures: Mapping[str, bytes]


def draw_all(results: Results) -> list[Gallery]:
  """Draws every figure of the study."""
  return [
    _entropy(results),
    _accuracy(results),
    _stage1_accuracy(results),
    _pass_at_k(results),
    _behavior(results),
    _training(results),
  ]


def _entropy(results: Results) -> Gallery:
  logged = {
    stage: _logged(results, stage, "policy/entropy")
    for stage in ("stage1", "grpo")
  }
  sampled = {
    stage: _evaluated(results, stage, "in_domain", "entropy")
    for stage in ("stage1", "grpo")
  }
  names = {"stage1": "Stage 1", "grpo": "Stage 2 (GRPO)"}
  pictures = {}
  for stage, curves in sampled.items():
    pictures[f"entropy_evaluated_{stage}"] = figures.panel(
      curves,
      title=f"{names[stage]}: entropy on validation problems",
      xlabel=f"{names[stage]} step",
      ylabel=_ENTROPY.format(tempered(results.temperature("evaluation"))),
      ylim=_shared_limits(sampled),
    )
  for stage, curves in logged.items():
    pictures[f"entropy_logged_{stage}"] = figures.panel(
      curves,
      title=f"{names[stage]}: entropy on the batch of every step",
      xlabel=f"{names[stage]} step",
      ylabel=_ENTROPY.format(_logged_at(results, stage)),
      ylim=_shared_limits(logged),
    )
  return Gallery(
    "Entropy through both stages",
    "Exact entropy of the next token over the full vocabulary, in nats, at the "
    "temperature that the axis names, mean over completion tokens. Above: own "
    "samples of each policy on the same validation problems. "
    f"{_bands(results)} Below: the batch of each update, as logged; the "
    "completions there are the given solutions for SFT and own samples for OPD "
    "and GRPO, so Stage 1 compares arms only in the upper row. Thick: running "
    f"mean; faint: every step{_over_seeds(results)}.",
    pictures,
  )


def tempered(temperature: float) -> str:
  """Returns the temperature that statistics of samples are at, for a label."""
  # Greedy samples have their statistics at 1 (`sampling.logits`).
  if temperature == 0:
    return "greedy, T = 1"
  return f"T = {temperature:g}"


def _logged_at(results: Results, stage: str) -> str:
  """SFT's forward pass has no temperature; OPD and GRPO sample at theirs."""
  if stage == "grpo":
    return tempered(results.temperature("grpo"))
  opd = tempered(results.temperature("opd"))
  return opd if opd == tempered(1.0) else f"{tempered(1.0)}; OPD: {opd}"


def _bands(results: Results) -> str:
  if len(results.seeds) == 1:
    return "Bands: 95 %, bootstrap over problems."
  return (
    "Lines: mean over seeds. Bands: 95 %, bootstrap over problems alone; how "
    "seeds differ stands in the tables."
  )


def _over_seeds(results: Results) -> str:
  return ", mean over seeds" if len(results.seeds) > 1 else ""


def _measured(results: Results) -> list[tuple[str, str]]:
  """Returns problem sets that were measured, with their names."""
  return [item for item in _SETS.items() if results.scores[item[0]]]


def _accuracy(results: Results) -> Gallery:
  top = f"pass@{results.top_k}"
  pictures = {}
  for metric, label in (("accuracy", "accuracy"), (top, top)):
    for problem_set, where in _measured(results):
      name = f"{metric.replace('@', '_at_')}_{problem_set}"
      pictures[name] = figures.panel(
        _evaluated(results, "grpo", problem_set, metric),
        title=f"{label}, {where}",
        xlabel="RL step",
        ylabel=label,
        levels=_teacher(results, problem_set, metric),
        percent=True,
      )
  return Gallery(
    "Accuracy and pass@k through RL",
    f"Mean over problems. {_bands(results)}{_dotted(results)}",
    pictures,
  )


def _stage1_accuracy(results: Results) -> Gallery:
  return Gallery(
    "Accuracy through Stage 1",
    "What each warm start learns before RL. Step 0 is the base model. "
    f"{_bands(results)}{_dotted(results)}",
    {
      f"stage1_accuracy_{problem_set}": figures.panel(
        _evaluated(results, "stage1", problem_set, "accuracy"),
        title=f"Stage 1: accuracy, {where}",
        xlabel="Stage 1 step",
        ylabel="accuracy",
        levels=_teacher(results, problem_set, "accuracy"),
        percent=True,
      )
      for problem_set, where in _measured(results)
    },
  )


def _pass_at_k(results: Results) -> Gallery:
  pictures = {}
  ks = [k for k in KS if k <= results.top_k]
  for problem_set, where in _measured(results):
    for moment, label in (("entry", "RL entry"), ("endpoint", "RL endpoint")):
      curves = []
      for arm in ARMS:
        point = getattr(results, moment)(arm)
        intervals = [results.band(point, problem_set, f"pass@{k}") for k in ks]
        if None not in intervals:
          curves.append(_banded(arm, ks, intervals))
      pictures[f"pass_at_k_{problem_set}_{moment}"] = figures.panel(
        curves,
        title=f"pass@k at {label}, {where}",
        xlabel="k (samples allowed)",
        ylabel="pass@k",
        percent=True,
        doubling_x=True,
      )
  return Gallery(
    "pass@k",
    "Unbiased estimate of the chance that one of k samples is right. "
    f"{_bands(results)}",
    pictures,
  )


def _behavior(results: Results) -> Gallery:
  return Gallery(
    "What the answers look like through RL",
    "In-domain validation problems. Distinct answers are different final "
    f"answers among a problem's samples. {_bands(results)}",
    {
      metric: figures.panel(
        _evaluated(results, "grpo", "in_domain", metric),
        title=title,
        xlabel="RL step",
        ylabel=label,
        # From 0, or a change of half a token fills the panel.
        ylim=(0.0, None),
      )
      for metric, title, label in (
        ("length", "Response length", "tokens a completion"),
        ("distinct_answers", "Answer diversity", "distinct answers a problem"),
      )
    },
  )


def _training(results: Results) -> Gallery:
  return Gallery(
    "The RL signal",
    "From the journal of every step; thick: running mean, faint: every step"
    f"{_over_seeds(results)}. A group whose rewards are all equal is "
    "degenerate: it carries no gradient.",
    {
      name: figures.panel(
        _logged(results, "grpo", key),
        title=title,
        xlabel="RL step",
        ylabel=label,
        percent=percent,
      )
      for name, key, title, label, percent in (
        ("reward", "reward/mean", "Mean reward", "reward", False),
        (
          "degenerate_groups",
          "reward/degenerate_groups",
          "Degenerate groups",
          "share of groups",
          True,
        ),
        ("grad_norm", "grad/norm", "Gradient norm", "norm", False),
        (
          "logprob_gap",
          "rollout/logprob_gap",
          "Sampler against training forward",
          "log-probability gap, nats",
          False,
        ),
      )
    },
  )


def _evaluated(
  results: Results, stage: str, problem_set: str, metric: str
) -> list[Curve]:
  """Returns a curve with a band for every arm that has the stage."""
  curves = []
  for arm in ARMS:
    steps = results.steps(arm, stage, problem_set)
    if steps:
      intervals = [
        results.band(Point(arm, stage, step), problem_set, metric)
        for step in steps
      ]
      curves.append(_banded(arm, steps, intervals))
  return curves


def _banded(arm, x, intervals) -> Curve:
  mean, low, high = np.array(intervals).T
  return Curve(ARM_STYLES[arm], np.asarray(x, float), mean, low, high)


def _logged(results: Results, stage: str, key: str) -> list[Curve]:
  """Returns the seed mean of a journal key for every arm that logged it."""
  curves = []
  for arm in ARMS if stage == "grpo" else WARM_STARTS:
    by_step: dict[int, list[float]] = {}
    for records in results.journals.get((arm, stage), {}).values():
      for record in records:
        if np.isfinite(record.get(key, np.nan)):
          by_step.setdefault(record["step"], []).append(record[key])
    if not by_step:
      continue
    steps = sorted(by_step)
    raw = np.array([np.mean(by_step[step]) for step in steps])
    window = 2 * (len(steps) // 30) + 1
    curves.append(
      Curve(
        ARM_STYLES[arm],
        np.asarray(steps, float),
        figures.running_mean(raw, window),
        faint=raw if window > 1 else None,
        markers=False,
      )
    )
  return curves


_ACCURACY = ("in_domain", "accuracy")


def _teacher(results: Results, problem_set: str, metric: str) -> list[Level]:
  found = results.mean(TEACHER, problem_set, metric)
  return [] if found is None else [Level("teacher", found)]


def _dotted(results: Results) -> str:
  return " Dotted: the teacher." if _teacher(results, *_ACCURACY) else ""


def _shared_limits(curves: Mapping[str, list[Curve]]):
  """Returns the y range of all panels, from 0."""
  tops = [
    np.nanmax(curve.y if curve.high is None else curve.high)
    for group in curves.values()
    for curve in group
  ]
  return (0.0, 1.05 * max(tops)) if tops and max(tops) > 0 else None
