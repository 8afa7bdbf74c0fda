"""The study's results as Markdown: what a README quotes."""

import pathlib
from collections.abc import Iterable

from experiments.stage1_entropy import claims
from jaxvlm.diagnostics import Interval
from jaxvlm.study import results as results_lib
from jaxvlm.study.results import ARMS, NAMES, TEACHER, Results


def write_summary(workdir: pathlib.Path) -> pathlib.Path:
  """Writes results.md beside the report: verdicts and scores.

  Args:
    workdir: what `experiments.stage1_entropy.run` wrote.

  Returns:
    The path of results.md.
  """
  results = results_lib.load(workdir)
  path = workdir / "results.md"
  path.write_text(
    "\n".join([*_verdicts(results), "", *_scores(results), ""]), "utf-8"
  )
  return path


def _verdicts(results: Results) -> Iterable[str]:
  yield "| claim | paper | here, 95 % for a claim's all | verdict |"
  yield "|---|---|---|---|"
  for finding in claims.findings(results, {}):
    ours = []
    for c in finding.contrasts:
      if c.interval is None:
        continue
      digits = 3 if c.unit == "nats" else 1
      ours.append(f"{c.label} {_signed(c.interval, digits)} {c.unit}")
    if len(ours) > 3:
      ours = [*ours[:3], f"… ({len(ours)} in the report)"]
    yield (
      f"| {finding.claim.id} {finding.claim.text} | {finding.claim.paper} |"
      f" {'; '.join(ours) or '–'} | **{finding.verdict_in_words}** |"
    )


def _scores(results: Results) -> Iterable[str]:
  top = f"pass@{results.top_k}"
  columns = (
    ("in_domain", "accuracy", 100.0, 1),
    ("in_domain", top, 100.0, 1),
    ("in_domain", "entropy", 1.0, 3),
    ("in_domain", "distinct_answers", 1.0, 2),
    ("out_of_domain", "accuracy", 100.0, 1),
  )
  yield (
    f"| policy | accuracy, % | {top}, % | entropy, nats | distinct answers |"
    " out of domain, % |"
  )
  yield "|---|---|---|---|---|---|"
  rows = [("base", results.untrained), ("teacher", TEACHER)]
  for arm in ARMS:
    if arm != "base":
      rows.append((f"{NAMES[arm]}, RL entry", results.entry(arm)))
    rows.append((f"{NAMES[arm]}, RL endpoint", results.endpoint(arm)))
  for label, point in rows:
    cells = []
    for problem_set, metric, scale, digits in columns:
      found = results.interval(point, problem_set, metric)
      cells.append("–" if found is None else _plain(found, scale, digits))
    if any(cell != "–" for cell in cells):
      yield f"| {label} | " + " | ".join(cells) + " |"


def _plain(i: Interval, scale: float, digits: int) -> str:
  mean, low, high = (f"{scale * x:.{digits}f}" for x in i)
  return f"{mean} [{low}, {high}]"


def _signed(i: Interval, digits: int) -> str:
  mean, low, high = (f"{x:+.{digits}f}".replace("-", "−") for x in i)
  return f"{mean} [{low}, {high}]"
