"""Figures that studies choose from, and the curves that they are made of.

Curves of evaluations have a band from the bootstrap over problems alone, for
two or three seeds say next to nothing about a band of runs; curves of the
journal are means over seeds, with the raw series faint behind a running mean.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxvlm.eval import figures
from jaxvlm.eval.figures import Curve, Level, Picture, Style
from jaxvlm.study.design import Design, Point
from jaxvlm.study.results import KS, Results, is_share

# After Okabe and Ito, with a darker red and a lighter gray: the two closest of
# the first four are 31 apart in CIELAB to protan, deutan and tritan eyes.
# Markers and dashes say the same in black and white.
_LOOKS = (
  ("#0072B2", "o", "-"),
  ("#E69F00", "s", "-"),
  ("#B5420A", "^", "-"),
  ("#8A8A8A", "D", "--"),
  ("#009E73", "v", "-"),
  ("#CC79A7", "P", "-"),
  ("#56B4E9", "X", "--"),
)


@dataclasses.dataclass(frozen=True)
class Gallery:
  """Panels that belong together, by the names of their files."""

  title: str
  caption: str
  pictures: Mapping[str, Picture]


class Panel(NamedTuple):
  """One panel of what is measured or logged along a stage.

  Attributes:
    name: of the file.
    key: metric of an evaluation, or key of the journal.
    title: above the panel.
    label: of the y axis.
    percent: whether y is a share.
  """

  name: str
  key: str
  title: str
  label: str
  percent: bool = False


def entropy(
  results: Results,
  names: Mapping[str, str],
  logged_at: Mapping[str, str],
  completions: str,
) -> Gallery:
  """Entropy through all stages, on the same problems and on each batch.

  Args:
    results: what was measured.
    names: stage -> its name on axes.
    logged_at: stage -> temperature of what its journal logs.
    completions: which completions each stage logs, a sentence.
  """
  main = results.design.main_set
  sampled = {s: evaluated(results, s, main, "entropy") for s in names}
  logs = {s: logged(results, s, "policy/entropy") for s in names}
  at = dict.fromkeys(names, results.tempered("evaluation"))
  pictures = {}
  for kind, on, curves, temperatures in (
    ("evaluated", "validation problems", sampled, at),
    ("logged", "the batch of every step", logs, logged_at),
  ):
    for stage, name in names.items():
      pictures[f"entropy_{kind}_{stage}"] = figures.panel(
        curves[stage],
        title=f"{name}: entropy on {on}",
        xlabel=f"{name} step",
        ylabel="full-vocabulary entropy of\n"
        f"completion tokens, nats ({temperatures[stage]})",
        ylim=_shared_limits(curves),
      )
  return Gallery(
    "Entropy through all stages",
    "Exact entropy of the next token over the full vocabulary, in nats, at the "
    "temperature that the axis names, mean over completion tokens. Above: own "
    "samples of each policy on the same validation problems. "
    f"{_bands(results)} Below: the batch of each update, as logged. "
    f"{completions} Thick: running mean; faint: every step"
    f"{_over_seeds(results)}.",
    pictures,
  )


def scores(
  results: Results,
  stage: str,
  name: str,
  metrics: Sequence[str],
  *,
  title: str,
  caption: str,
) -> Gallery:
  """Scores along a stage, a panel for each metric and problem set."""
  prefix = "" if stage == results.design.last else f"{stage}_"
  start = f"{name}: " if prefix else ""
  measured = _measured(results)
  pictures = {
    f"{prefix}{metric.replace('@', '_at_')}_{problem_set}": figures.panel(
      evaluated(results, stage, problem_set, metric),
      title=f"{start}{metric}, {where}",
      xlabel=f"{name} step",
      ylabel=metric,
      levels=_references(results, problem_set, metric),
      percent=is_share(metric),
    )
    for metric in metrics
    for problem_set, where in measured
    if _scored(results, problem_set, metric)
  }
  beside = [
    reference
    for problem_set, _ in measured
    for reference in _references(results, problem_set, metrics[0])
  ]
  dotted = " and ".join(dict.fromkeys(level.label for level in beside))
  dotted = f" Dotted: the {dotted}." if dotted else ""
  return Gallery(title, f"{caption} {_bands(results)}{dotted}", pictures)


def pass_at_k(results: Results) -> Gallery:
  """pass@k of all arms at entry and endpoint."""
  design, pictures = results.design, {}
  ks = [k for k in KS if k <= results.top_k]
  for problem_set, where in _measured(results):
    for moment, of in (
      ("entry", results.entry),
      ("endpoint", results.endpoint),
    ):
      curves = []
      for arm, style in styles(design).items():
        intervals = [
          results.band(of(arm), problem_set, f"pass@{k}") for k in ks
        ]
        if None not in intervals:
          curves.append(_banded(style, ks, intervals))
      pictures[f"pass_at_k_{problem_set}_{moment}"] = figures.panel(
        curves,
        title=f"pass@k at {design.last_name} {moment}, {where}",
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


LENGTH = Panel("length", "length", "Response length", "tokens a completion")
DISTINCT = Panel(
  "distinct_answers",
  "distinct_answers",
  "Answer diversity",
  "distinct answers a problem",
)


def behavior(
  results: Results, panels: Sequence[Panel] = (LENGTH, DISTINCT)
) -> Gallery:
  """What answers look like along the last stage."""
  design = results.design
  return Gallery(
    f"What the answers look like through {design.last_name}",
    f"{design.problem_sets[design.main_set].capitalize()} validation problems. "
    "Distinct answers are different final answers among a problem's samples. "
    f"{_bands(results)}",
    {
      panel.name: figures.panel(
        evaluated(results, design.last, design.main_set, panel.key),
        title=panel.title,
        xlabel=f"{design.last_name} step",
        ylabel=panel.label,
        # From 0, or a change of half a token fills the panel.
        ylim=(0.0, None),
        percent=panel.percent,
      )
      for panel in panels
    },
  )


SIGNAL = (
  Panel("reward", "reward/mean", "Mean reward", "reward"),
  Panel(
    "degenerate_groups",
    "reward/degenerate_groups",
    "Degenerate groups",
    "share of groups",
    percent=True,
  ),
  Panel("grad_norm", "grad/norm", "Gradient norm", "norm"),
  Panel(
    "logprob_gap",
    "rollout/logprob_gap",
    "Sampler against training forward",
    "log-probability gap, nats",
  ),
)


def signal(results: Results, panels: Sequence[Panel] = SIGNAL) -> Gallery:
  """What the journal logs along a last stage of RL."""
  design = results.design
  return Gallery(
    f"The {design.last_name} signal",
    "From the journal of every step; thick: running mean, faint: every step"
    f"{_over_seeds(results)}. A group whose rewards are all equal is "
    "degenerate: it carries no gradient.",
    {
      panel.name: figures.panel(
        logged(results, design.last, panel.key),
        title=panel.title,
        xlabel=f"{design.last_name} step",
        ylabel=panel.label,
        percent=panel.percent,
      )
      for panel in panels
    },
  )


def styles(design: Design) -> dict[str, Style]:
  """Returns arm -> how it looks in every figure, by its place.

  Arms beyond the number of looks have the colors again, dash-dotted.
  """
  out = {}
  for place, (arm, name) in enumerate(design.arms.items()):
    color, marker, dash = _LOOKS[place % len(_LOOKS)]
    again = place >= len(_LOOKS)
    out[arm] = Style(name, color, marker, "-." if again else dash)
  return out


def evaluated(
  results: Results, stage: str, problem_set: str, metric: str
) -> list[Curve]:
  """Returns a curve with a band for every arm that has the stage."""
  curves = []
  for arm, style in styles(results.design).items():
    steps = results.steps(arm, stage, problem_set)
    if steps:
      intervals = [
        results.band(Point(arm, stage, step), problem_set, metric)
        for step in steps
      ]
      curves.append(_banded(style, steps, intervals))
  return curves


def logged(results: Results, stage: str, key: str) -> list[Curve]:
  """Returns the seed mean of a journal key for every arm that logged it."""
  curves = []
  for arm, style in styles(results.design).items():
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
        style,
        np.asarray(steps, float),
        figures.running_mean(raw, window),
        faint=raw if window > 1 else None,
        markers=False,
      )
    )
  return curves


def _measured(results: Results) -> list[tuple[str, str]]:
  """Returns problem sets that were measured, with their names."""
  sets = results.design.problem_sets.items()
  return [item for item in sets if results.points(item[0])]


def _scored(results: Results, problem_set: str, metric: str) -> bool:
  """Returns whether a problem set is scored by a metric."""
  by_point = results.points(problem_set).values()
  return any(metric in scores for by in by_point for scores in by.values())


def _banded(style: Style, x, intervals) -> Curve:
  mean, low, high = np.array(intervals).T
  return Curve(style, np.asarray(x, float), mean, low, high)


def _references(results: Results, problem_set: str, metric: str) -> list[Level]:
  """Returns a line for everything that was measured beside the arms."""
  found = {
    name: results.mean(point, problem_set, metric)
    for point, name in results.design.references.items()
  }
  return [Level(name, mean) for name, mean in found.items() if mean is not None]


def _bands(results: Results) -> str:
  if len(results.seeds) == 1:
    return "Bands: 95 %, bootstrap over problems."
  return (
    "Lines: mean over seeds. Bands: 95 %, bootstrap over problems alone; how "
    "seeds differ stands in the tables."
  )


def _over_seeds(results: Results) -> str:
  return ", mean over seeds" if len(results.seeds) > 1 else ""


def _shared_limits(curves: Mapping[str, list[Curve]]):
  """Returns the y range of all panels, from 0."""
  tops = [
    np.nanmax(curve.y if curve.high is None else curve.high)
    for group in curves.values()
    for curve in group
  ]
  return (0.0, 1.05 * max(tops)) if tops and max(tops) > 0 else None
