"""The study's tables: the paper's numbers beside ours, all scores, time."""

import itertools
from typing import Any

from markupsafe import Markup

from experiments.stage1_entropy.figures import tempered
from jaxvlm.diagnostics import Interval
from jaxvlm.eval import report
from jaxvlm.study.results import (
  ARMS,
  NAMES,
  STAGES,
  TEACHER,
  WARM_STARTS,
  Point,
  Results,
)

_ABSENT = "–"


def beside(results: Results) -> Markup:
  """Returns the table of the paper's numbers."""
  return report.table(
    ("quantity", "paper", "here"),
    [*_scores_beside(results), *_spreads(results), *_entropies(results)],
    caption=(
      "Paper: Qwen2.5-VL-7B from a 72B teacher, Geometry3K (601 problems) and "
      "MathVista. Here: the models and problems under “How this was run”; "
      "where they are others, directions and ratios compare, levels do not. "
      f"95 % intervals{over(results)}, each by itself."
      + (
        f" Pass@16 is the paper's, pass@{results.top_k} ours: no more samples "
        "were drawn."
        if results.top_k < 16
        else ""
      )
    ),
  )


def over(results: Results) -> str:
  """Returns what intervals of single numbers are taken over."""
  if len(results.seeds) == 1:
    return " over problems"
  return " over problems and runs (teacher and base: over problems)"


def _pass(results: Results) -> str:
  """Names the metric of a row that has the paper's number beside ours."""
  return "pass@16" + (
    f" (here pass@{results.top_k})" if results.top_k < 16 else ""
  )


def _scores_beside(results: Results) -> list[tuple]:
  """Returns rows of accuracies and of differences."""
  opd, end, top = results.entry("opd"), results.endpoint, results.top_k
  accuracy = "In-domain accuracy, %"
  rows: list[tuple] = [
    (f"{accuracy}: {label}", paper, _percent(results, point))
    for label, paper, point in (
      ("base", "37.8", results.untrained),
      ("base + GRPO", "47.8 (120 steps)", end("base")),
      ("teacher", "49.3", TEACHER),
      ("OPD", "50.5 (peak 51.1)", opd),
      ("OPD + GRPO", "54.2", end("opd")),
      ("early SFT + GRPO", "53–54", end("sft_early")),
      ("over-trained SFT + GRPO", "53–54", end("sft_over")),
    )
  ]
  for label, paper, a, b, problem_set, metric in (
    *(
      (
        f"In-domain {_pass(results)} at RL entry, points: OPD − {NAMES[arm]}",
        "+2.0 or +5.2",
        opd,
        results.entry(arm),
        "in_domain",
        f"pass@{top}",
      )
      for arm in ("sft_early", "sft_over")
    ),
    *(
      (
        f"Out-of-domain accuracy after Stage 1, points: {NAMES[arm]} − base",
        paper,
        results.entry(arm),
        results.untrained,
        "out_of_domain",
        "accuracy",
      )
      for arm, paper in (("sft_early", "+2.1"), ("sft_over", "−9.5"))
    ),
  ):
    found = results.difference(a, b, problem_set, metric)
    rows.append(
      (
        label,
        paper,
        report.difference(*(100 * value for value in found.interval), 1)
        if found
        else _ABSENT,
      )
    )
  return rows


def _spreads(results: Results) -> list[tuple[str, str, str]]:
  """Returns rows of largest minus smallest mean over policies."""
  top = f"pass@{results.top_k}"
  entries = [results.entry(arm) for arm in WARM_STARTS]
  ends = [results.endpoint(arm) for arm in WARM_STARTS]
  rows = []
  for label, paper, points, problem_set, metric in (
    ("In-domain accuracy at the RL endpoint, three warm starts",
     "about 1", ends, "in_domain", "accuracy"),
    (f"In-domain {_pass(results)} at the RL endpoint, three warm starts",
     "1.1", ends, "in_domain", top),
    (f"Out-of-domain {_pass(results)}, three warm starts before and after RL",
     "1.2", entries + ends, "out_of_domain", top),
  ):  # fmt: skip
    means = [results.mean(point, problem_set, metric) for point in points]
    spread = _ABSENT
    if None not in means:
      spread = report.signless(100 * (max(means) - min(means)), 1)
    rows.append((f"{label}, largest − smallest, points", paper, spread))
  return rows


def _entropies(results: Results) -> list[tuple]:
  """Returns rows of OPD's entropy, begin and end of Stage 1."""
  # As in the paper, whose curve begins after the first steps.
  steps = [s for s in results.steps("opd", "stage1", "in_domain") if s > 0]
  rows = []
  for label, paper, index in (
    ("begin", "0.119 (step 55)", 0),
    ("end", "0.115 (step 600)", -1),
  ):
    name, ours = f"OPD entropy, {label} of Stage 1, nats", _ABSENT
    if steps:
      point = Point("opd", "stage1", steps[index])
      name += f" (here step {point.step})"
      ours = _cell(results.interval(point, "in_domain", "entropy"), 1.0, 3)
    rows.append((name, paper, ours))
  return rows


def _percent(results: Results, point: Point) -> Any:
  return _cell(results.interval(point, "in_domain", "accuracy"), 100.0, 1)


_COLUMNS = (
  ("accuracy", "accuracy, %", 100.0, 1),
  ("pass@4", "pass@4, %", 100.0, 1),
  ("top", "", 100.0, 1),
  ("entropy", "entropy, nats", 1.0, 3),
  ("distinct_answers", "distinct answers", 1.0, 2),
  ("length", "tokens", 1.0, 1),
  ("format", "format, %", 100.0, 1),
)


def measurements(results: Results) -> list[Markup]:
  """Returns a table per problem set, and one of seeds."""
  top = f"pass@{results.top_k}"
  columns = []
  for metric, label, scale, digits in _COLUMNS:
    if metric == "top":
      metric, label = top, f"{top}, %"
    elif metric == "pass@4" and results.top_k <= 4:
      continue
    columns.append((metric, label, scale, digits))
  moments = [
    (NAMES[arm], name, point)
    for arm in ARMS
    for name, point in (
      ("entry", results.entry(arm)),
      ("endpoint", results.endpoint(arm)),
    )
  ] + [("teacher", "", TEACHER)]
  parts = []
  for problem_set, points in results.scores.items():
    if not points:
      continue
    rows = [
      (
        label,
        name,
        *(
          _cell(results.interval(point, problem_set, metric), scale, digits)
          for metric, _, scale, digits in columns
        ),
      )
      for label, name, point in moments
    ]
    parts.append(
      report.table(
        ("arm", "RL", *(label for _, label, _, _ in columns)),
        rows,
        caption=f"{problem_set.replace('_', '-')} problems",
        text_columns=2,
      )
    )
  if len(results.seeds) > 1:
    parts.append(_by_seed(results, moments, top))
  parts.append(
    report.paragraph(
      "Accuracy is pass@1: the mean over samples "
      f"({tempered(results.temperature('evaluation'))}). Entropy is "
      "that of the whole vocabulary at each completion token of the policy's "
      "own samples, a token mean within each problem. Distinct answers are "
      "counted among a problem's samples. "
      + (
        "The endpoint is the mean of the evaluations at steps "
        f"{', '.join(map(str, results.endpoint_steps))}. "
        if len(results.endpoint_steps) > 1
        else ""
      )
      + f"Brackets are 95 % intervals{over(results)}, each by itself.",
      kind="soft",
    )
  )
  return parts


def _by_seed(results: Results, moments, top: str) -> Markup:
  metrics = (
    ("accuracy", "accuracy, %", 100.0, 1),
    (top, f"{top}, %", 100.0, 1),
    ("entropy", "entropy, nats", 1.0, 3),
  )
  rows = []
  for label, name, point in moments:
    cells = []
    for metric, _, scale, digits in metrics:
      found = results.per_seed(point, "in_domain", metric)
      cells.append(
        " · ".join(
          report.signless(scale * found[seed], digits)
          if seed in found
          else _ABSENT
          for seed in results.seeds
        )
      )
    rows.append((label, name, *cells))
  return report.table(
    ("arm", "RL", *(label for _, label, _, _ in metrics)),
    rows,
    caption=f"In-domain, seeds {', '.join(map(str, results.seeds))} apart",
    text_columns=2,
  )


def _cell(interval: Interval | None, scale: float, digits: int) -> Any:
  if interval is None:
    return _ABSENT
  return report.number(*(scale * value for value in interval), digits)


def time_spent(results: Results) -> Markup:
  """Returns the table of seconds by arm and stage."""
  rows = []
  for arm, stage in itertools.product(ARMS, STAGES):
    by_seed = results.journals.get((arm, stage))
    if not by_seed:
      continue
    seconds = {"inputs": 0.0, "update": 0.0, "evaluate": 0.0}
    steps = 0
    for records in by_seed.values():
      steps = max(steps, records[-1]["step"])
      for record in records:
        for part in seconds:
          seconds[part] += record.get(f"time/{part}_s", 0.0)
    each = {part: total / len(by_seed) for part, total in seconds.items()}
    rows.append(
      (
        NAMES[arm],
        "Stage 1" if stage == "stage1" else "Stage 2, GRPO",
        steps,
        *(f"{each[part]:.1f}" for part in seconds),
        f"{sum(each.values()):.1f}",
      )
    )
  return report.table(
    ("arm", "stage", "steps", "inputs, s", "update, s", "evaluate, s", "sum"),
    rows,
    caption="Time of a seed, mean over seeds; inputs include the rollouts",
    text_columns=2,
  )
