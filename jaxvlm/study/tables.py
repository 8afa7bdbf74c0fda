"""Tables of a study's page: cells, all measurements, time."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from jaxvlm.diagnostics import Interval
from jaxvlm.eval import report
from jaxvlm.study.design import Policy
from jaxvlm.study.results import Results, is_share, unit

ABSENT = "–"


def over(results: Results) -> str:
  """Returns what intervals of single numbers are taken over."""
  if len(results.seeds) == 1:
    return " over problems"
  fixed = [*results.design.references.values()]
  if results.untrained:
    fixed.append("untrained policy")
  apart = f" ({' and '.join(fixed)}: over problems)" if fixed else ""
  return f" over problems and runs{apart}"


def level(
  results: Results, policy: Policy, problem_set: str, metric: str
) -> Any:
  """Returns the cell of a mean with its interval; shares in percent."""
  _, scale, digits = unit(metric)
  return _cell(results.interval(policy, problem_set, metric), scale, digits)


def difference(
  results: Results, a: Policy, b: Policy, problem_set: str, metric: str
) -> Any:
  """Returns the cell of a − b with its interval, in the metric's unit."""
  found = results.difference(a, b, problem_set, metric)
  if found is None:
    return ABSENT
  _, scale, digits = unit(metric)
  return report.difference(*(scale * v for v in found.interval), digits)


def spread(
  results: Results, policies: Sequence[Policy], problem_set: str, metric: str
) -> str:
  """Returns the cell of largest minus smallest mean over policies."""
  means = [results.mean(policy, problem_set, metric) for policy in policies]
  if None in means:
    return ABSENT
  _, scale, digits = unit(metric)
  return report.signless(scale * (max(means) - min(means)), digits)


class Column(NamedTuple):
  """A metric, its heading, and how it is scaled and rounded."""

  metric: str
  label: str
  scale: float
  digits: int


def measurements(results: Results) -> list[Markup]:
  """Returns a table per problem set, and one of seeds."""
  parts = []
  for problem_set, points in results.scores.items():
    if not points:
      continue
    shown = columns(results, problem_set)
    rows = [
      (
        moment.name,
        moment.moment,
        *(
          _cell(
            results.interval(moment.policy, problem_set, metric), scale, digits
          )
          for metric, _, scale, digits in shown
        ),
      )
      for moment in results.moments
    ]
    words = results.design.problem_sets.get(problem_set, problem_set)
    parts.append(
      report.table(
        (*_names(results), *(label for _, label, _, _ in shown)),
        rows,
        caption=f"{words} problems",
        text_columns=2,
      )
    )
  if len(results.seeds) > 1:
    parts.append(_by_seed(results))
  parts.append(report.paragraph(_explained(results), kind="soft"))
  return parts


def _explained(results: Results) -> str:
  """Returns what the numbers of the tables are."""
  sentences = {
    "accuracy": "Accuracy is pass@1: the mean over samples "
    f"({results.tempered('evaluation')}).",
    "entropy": "Entropy is that of the whole vocabulary at each completion "
    "token of the policy's own samples, a token mean within each problem.",
    "distinct_answers": "Distinct answers are counted among a problem's "
    "samples.",
  }
  shown = {column.metric for column in few(results)}
  parts = [text for metric, text in sentences.items() if metric in shown]
  several = results.endpoint_steps
  if len(several) > 1:
    steps = ", ".join(map(str, several))
    parts.append(
      f"The endpoint is the mean of the evaluations at steps {steps}."
    )
  parts.append(f"Brackets are 95 % intervals{over(results)}, each by itself.")
  return " ".join(parts)


def _names(results: Results) -> tuple[str, str]:
  return "arm", results.design.last_name


def columns(results: Results, problem_set: str) -> list[Column]:
  """Returns the columns of what was measured, whatever the scores' names."""
  top = results.top_k
  usual = [
    Column("accuracy", "accuracy, %", 100.0, 1),
    Column("pass@4", "pass@4, %", 100.0, 1),
    Column(f"pass@{top}", f"pass@{top}, %", 100.0, 1),
    Column("entropy", "entropy, nats", 1.0, 3),
    Column("distinct_answers", "distinct answers", 1.0, 2),
    Column("length", "tokens", 1.0, 1),
    Column("format", "format, %", 100.0, 1),
  ]
  if top <= 4:
    del usual[1]
  known = {column.metric for column in usual}
  measured = {
    name: None
    for by_seed in results.points(problem_set).values()
    for scores in by_seed.values()
    for name in scores
  }
  shown = results.design.shown.get(problem_set, tuple(measured))
  others = [
    Column(name, f"{name}, %" if is_share(name) else name, *unit(name)[1:])
    for name in measured
    if name not in known and not name.startswith("pass@")
  ]
  return [
    column
    for column in usual + others
    if column.metric in measured and column.metric in shown
  ]


def few(results: Results) -> list[Column]:
  """Returns the main columns of the main set, and scores of other names."""
  left_out = {"pass@4", "length", "format"} - {f"pass@{results.top_k}"}
  return [
    column
    for column in columns(results, results.design.main_set)
    if column.metric not in left_out
  ]


def _by_seed(results: Results) -> Markup:
  design, shown = results.design, few(results)
  rows = []
  for label, name, point in results.moments:
    cells = []
    for metric, _, scale, digits in shown:
      found = results.per_seed(point, design.main_set, metric)
      cells.append(
        " · ".join(
          report.signless(scale * found[seed], digits)
          if seed in found
          else ABSENT
          for seed in results.seeds
        )
      )
    rows.append((label, name, *cells))
  return report.table(
    (*_names(results), *(column.label for column in shown)),
    rows,
    caption=f"{design.problem_sets[design.main_set]} problems, seeds "
    f"{', '.join(map(str, results.seeds))} apart",
    text_columns=2,
  )


def _cell(interval: Interval | None, scale: float, digits: int) -> Any:
  if interval is None:
    return ABSENT
  return report.number(*(scale * value for value in interval), digits)


def time_spent(results: Results) -> Markup:
  """Returns the table of seconds by arm and stage."""
  design = results.design
  rows = []
  for arm, stage in itertools.product(design.arms, design.stages):
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
        design.arms[arm],
        design.stages[stage],
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
