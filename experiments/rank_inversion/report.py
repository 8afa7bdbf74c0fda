"""The study's page: the paper's figures beside ours, the check, the theory."""

import collections
import math
import pathlib

import numpy as np

from experiments.rank_inversion import published, statistics
from experiments.rank_inversion.claims import CLAIMS, PRECONDITIONS, PREFACE
from experiments.rank_inversion.design import (
  ARMS,
  CODERS,
  DEPTHS,
  DESIGN,
  Arm,
  ladder,
)
from jaxvlm.diagnostics import headroom_threshold
from jaxvlm.eval import figures, report, spreads
from jaxvlm.eval.figures import Curve, Style
from jaxvlm.eval.report import Section
from jaxvlm.study import claims as claims_lib
from jaxvlm.study import galleries, page, read, tables
from jaxvlm.study.design import Peak, Policy
from jaxvlm.study.galleries import Gallery
from jaxvlm.study.results import Results
from jaxvlm.study.verdicts import Verdict

_GROUP = 8


def write_report(workdir: pathlib.Path | str) -> pathlib.Path:
  """Writes report.html, results.md and figures/*.png into a study's folder.

  Args:
    workdir: what `experiments.rank_inversion.run` wrote.

  Returns:
    The path of report.html.

  Raises:
    ValueError: nothing was measured yet.
  """
  workdir = pathlib.Path(workdir)
  results = read.load(workdir, DESIGN)
  return page.write(
    workdir,
    results,
    CLAIMS,
    title="Can the best SFT checkpoint be the worst start for RL?",
    subtitle="The rank-inversion study of arXiv 2606.18487: five depths of one "
    "SFT, then the same GRPO from each.",
    preface=PREFACE,
    galleries=_figures(results),
    own=[
      _preconditions(results),
      _ladder(results),
      _advice(results),
      _correlations(results),
      _check(results),
      _theory(results),
    ],
  )


def _figures(results: Results) -> list[Gallery]:
  top = results.measured_as("pass@10", "hard")
  return [
    _by_depth(results),
    _published(results),
    galleries.entropy(
      results,
      {"grpo": "RL"},
      logged_at={"grpo": results.tempered("grpo")},
      completions="The completions there are own samples on the training "
      "prompts; hot and cold arms at their own temperature.",
    ),
    galleries.scores(
      results,
      "grpo",
      "RL",
      ("accuracy", top),
      title=f"Accuracy and {top} through RL",
      caption="Mean over problems.",
    ),
    galleries.pass_at_k(results),
    galleries.signal(results),
    _headroom(results),
  ]


def _by_depth(results: Results) -> Gallery:
  """Entropy and accuracy before RL and the peak, over the ladder."""
  top = results.measured_as("pass@10", "hard")
  looks = {"weak": ("#0072B2", "o", "-"), "strong": ("#B5420A", "^", "-")}
  panels = (
    ("entropy", "entropy before RL", "nats", "entropy", 0),
    ("accuracy", "pass@1 before RL", "pass@1", "accuracy", 1),
    ("peak", f"peak {top} through RL", top, top, 2),
  )
  pictures = {}
  for name, title, label, metric, column in panels:
    curves = []
    for coder in CODERS:
      points = []
      for arm in ladder(coder):
        at = _peak(arm) if name == "peak" else results.entry(arm.name)
        found = results.band(at, "hard", metric)
        if found is not None:
          points.append((arm.depth, *found))
      if points:
        x, *banded = np.array(points).T
        style = Style(f"{coder} coder, here", *looks[coder])
        curves.append(Curve(style, x, *banded))
      paper = {
        d: v[column] for d, v in published.LADDER[coder].items() if v[column]
      }
      color, marker, _ = looks[coder]
      style = Style(f"{coder} coder, paper", color, marker, ":")
      x, y = (np.array(v, float) for v in (list(paper), list(paper.values())))
      curves.append(Curve(style, x, y))
    pictures[f"depth_{name}"] = figures.panel(
      curves,
      title=title[0].upper() + title[1:],
      xlabel="depth of SFT, epochs (here: in the same ratios)",
      ylabel=label,
      percent=name != "entropy",
    )
  return Gallery(
    "Over the ladder",
    "The paper's Figures 1 and 3b, with ours. Levels are those of other models "
    "on other problems: directions compare.",
    pictures,
  )


def _published(results: Results) -> Gallery:
  """The paper's Figures 2 and 4, on the axes of ours below."""
  looks = galleries.styles(results.design)
  x = np.array(published.STEPS)
  curves = {
    f"{coder} coder": {
      arm.name: of[arm.depth] for arm in ladder(coder) if arm.depth in of
    }
    for coder, of in published.THROUGH_RL.items()
  }
  curves["weak coder, interventions, one seed"] = published.INTERVENTIONS
  pictures = {
    f"paper_{number}": figures.panel(
      [Curve(looks[arm], x, np.array(y)) for arm, y in of.items()],
      title=f"Paper: {title}",
      xlabel="RL step",
      ylabel="pass@10",
      percent=True,
    )
    for number, (title, of) in enumerate(curves.items(), 1)
  }
  return Gallery(
    "The paper's Figures 2 and 4",
    "pass@10 of 20 samples through 400 steps of RL, read off the paper. Ours "
    "stand below under “through RL”, with the same colors.",
    pictures,
  )


def _headroom(results: Results) -> Gallery:
  """How many problems lie where, by their own pass@1 before RL."""
  threshold = headroom_threshold(_GROUP)
  edges, looks = np.linspace(0, 1, 21), galleries.styles(results.design)
  pictures = {}
  for coder in CODERS:
    curves = []
    for arm in ladder(coder):
      p = results.values(results.entry(arm.name), "hard", "accuracy")
      if p is not None:
        below = np.array([(p <= edge).mean() for edge in edges])
        curves.append(Curve(looks[arm.name], 100 * edges, below))
    if curves:
      pictures[f"headroom_{coder}"] = figures.panel(
        curves,
        title=f"Problems by their pass@1 before RL, {coder} coder",
        xlabel="pass@1 of a problem, %"
        f" (p*({_GROUP}) is {100 * threshold:.1f})",
        ylabel="share of problems at or below",
        percent=True,
      )
    for arm in ladder(coder)[:: len(DEPTHS) - 1]:
      p = results.values(results.entry(arm.name), "hard", "accuracy")
      if p is not None:
        pictures[f"headroom_{arm.name}"] = spreads.histogram(
          p,
          title=f"{looks[arm.name].label}: pass@1 of each problem before RL",
          xlabel="pass@1",
          ylabel="problems",
          limits=((f"p*({_GROUP})", threshold), ("mean", float(p.mean()))),
        )
  return Gallery(
    "Headroom, problem by problem",
    f"Below p*({_GROUP}) = {threshold:.4f} more than half of the groups of "
    f"{_GROUP} carry no gradient. A mean pass@1 above it says little: what "
    "counts is how many problems lie below.",
    pictures,
  )


def _peak(arm: Arm) -> Policy:
  return Peak(arm.name, "grpo")


_HELD = {
  Verdict.REPRODUCED: "holds",
  Verdict.NOT_REPRODUCED: "does not hold",
}


def _preconditions(results: Results) -> Section:
  rows = []
  for claim in PRECONDITIONS:
    for contrast in claims_lib.contrasts(claim, results):
      found = tables.ABSENT
      if contrast.interval is not None:
        digits = 1 if contrast.unit == "points" else 3
        found = report.difference(*contrast.interval, digits)
      verdict = _HELD.get(contrast.verdict, contrast.verdict.value)
      rows.append((claim.id, claim.text, claim.paper, found, verdict))
  table = report.table(
    ("", "what the world was tuned for", "paper", "here", ""),
    rows,
    caption="Preconditions of the claims, on problems that were not tuned on: "
    "no findings. Entropies in nats, shares in points.",
    text_columns=3,
  )
  return Section("Preconditions", [table])


def _ladder(results: Results) -> Section:
  """The paper's Tables 1 and 2 beside ours."""
  top = results.measured_as("pass@10", "hard")
  deep = results.measured_as("pass@10", "deep")
  rows = []
  for coder in CODERS:
    for arm in ladder(coder):
      if arm.name not in results.arms:
        continue
      entry, end = results.entry(arm.name), results.endpoint(arm.name)
      paper = published.LADDER[coder][arm.depth]
      rows.append(
        (
          results.design.arms[arm.name],
          " / ".join("–" if v is None else f"{v:.3f}" for v in paper),
          tables.level(results, entry, "hard", "entropy"),
          tables.level(results, entry, "hard", "accuracy"),
          tables.level(results, _peak(arm), "hard", top),
          tables.difference(results, end, entry, "deep", deep),
        )
      )
  table = report.table(
    (
      "arm",
      "paper: entropy / pass@1 / peak pass@10",
      "entropy before RL, nats",
      "pass@1 before RL, %",
      f"peak {top}, %",
      f"{deep} by RL, points (many samples)",
    ),
    rows,
    caption="A peak is each run's best evaluation after step 0. 95 % intervals"
    f"{tables.over(results)}, each by itself.",
  )
  return Section("The ladder, the paper's numbers beside ours", [table])


def _advice(results: Results) -> Section:
  """What `jaxvlm diagnose` says of every start, and what became of it."""
  top = results.measured_as("pass@10", "hard")
  rows = []
  for coder in CODERS:
    for arm in ladder(coder):
      verdict, reasons = statistics.advice(results, arm, _GROUP)
      if verdict is None:
        continue
      entry, end = results.entry(arm.name), results.endpoint(arm.name)
      rows.append(
        (
          results.design.arms[arm.name],
          verdict.value,
          "; ".join(reasons[:3]) + ".",
          tables.level(results, _peak(arm), "hard", top),
          tables.difference(results, end, entry, "hard", top),
        )
      )
  if not rows:
    nothing = report.paragraph("No start was measured.", kind="soft")
    return Section("The verdict before RL", [nothing])
  table = report.table(
    ("start", "verdict", "reasons", f"peak {top}, %", f"{top} by RL, points"),
    rows,
    caption="Made before RL from the samples of the evaluation at its start, "
    "seeds together, as `jaxvlm diagnose` does; then what RL made of it. "
    f"Entropy below {statistics.ENTROPY_THRESHOLD} nats is flagged, the "
    "paper's threshold.",
    text_columns=3,
  )
  return Section("The verdict before RL", [table])


def _correlations(results: Results) -> Section:
  parts = []
  for coder in CODERS:
    found = statistics.runs(results, coder, _GROUP)
    if len(found) < 3:
      continue
    rows = [
      (
        name,
        published.CORRELATIONS.get(name, tables.ABSENT)
        if coder == "weak"
        else "–",
        _rho(c),
      )
      for name, c in statistics.correlations(found).items()
    ]
    steps = ", ".join(
      f"{results.design.arms[run.arm.name]} (seed {run.seed}): {run.peak_step}"
      for run in found
    )
    parts.append(
      report.table(
        ("predictor before RL", "paper, ρ of 15 runs", "here, ρ"),
        rows,
        caption=f"Spearman's ρ with the peak pass@10 of {len(found)} runs of "
        f"the {coder} coder, seeds' means taken away; 95 % intervals from "
        "resampled seeds and problems. Steps of the peaks: "
        f"{steps}.",
      )
    )
  if not parts:
    parts = [
      report.paragraph("Fewer than three runs of a ladder.", kind="soft")
    ]
  return Section("What predicts the outcome", parts)


def _rho(found: statistics.Correlation):
  values = (found.rho, found.low, found.high)
  if not all(map(math.isfinite, values)):
    return tables.ABSENT
  return report.difference(*values, 2)


def _check(results: Results) -> Section:
  """The two-stage check's confusion table, misses included."""
  found = [d for coder in CODERS for d in statistics.diagnoses(results, coder)]
  if not found:
    nothing = report.paragraph("No run has come to its end.", kind="soft")
    return Section("The check in two stages", [nothing])
  rows = [
    (
      f"{d.name}, seed {d.seed}",
      f"{d.entropy:.3f}",
      tables.ABSENT if d.drop is None else f"{100 * d.drop:.0f} %",
      "warns" if d.flagged else "passes",
      "fell below its start" if d.failed else "did not",
    )
    for d in found
  ]
  counts = collections.Counter((d.flagged, d.failed) for d in found)
  saved = 1 - statistics.LATER
  stopped = sum(d.flagged for d in found) / len(found)
  summary = (
    f"Of {len(found)} runs: {counts[True, True]} warned of and failed, "
    f"{counts[True, False]} warned of in vain, {counts[False, True]} missed, "
    f"{counts[False, False]} rightly passed. Stopping the warned ones at "
    f"{100 * statistics.LATER:.0f} % of RL saves {100 * saved * stopped:.0f} % "
    "of all its steps."
  )
  table = report.table(
    ("run", "entropy before RL", "lost early in RL", "check", "pass@10 by RL"),
    rows,
    caption=f"Warns below {statistics.ENTROPY_THRESHOLD} nats before RL, or "
    f"where more than {100 * statistics.DROP_THRESHOLD:.0f} % of the entropy "
    f"is lost between {100 * statistics.EARLY:.1f} % and "
    f"{100 * statistics.LATER:.1f} % of the steps: the paper's thresholds.",
  )
  return Section("The check in two stages", [report.paragraph(summary), table])


def _theory(results: Results) -> Section:
  """Degenerate groups, predicted from pass@1 and counted."""
  rows = []
  for name in results.arms:
    for shares in statistics.degenerate_shares(results, ARMS[name], _GROUP):
      rows.append(
        (
          results.design.arms[name],
          shares.step,
          *(
            tables.ABSENT if v is None else f"{100 * v:.0f}" for v in shares[1:]
          ),
        )
      )
  table = report.table(
    (
      "arm",
      "step",
      "of the mean pass@1, %",
      "of each problem's, %",
      "batch of the step, %",
    ),
    rows,
    caption="Share of groups of eight that are all right or all wrong: f₈ of "
    "the mean pass@1; the mean over problems, from their samples; and what the "
    "batch of the step had, whose prompts are the filtered ones.",
  )
  return Section("Degenerate groups, predicted and counted", [table])
