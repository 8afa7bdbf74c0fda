"""A study's results in words and as Markdown: what a README quotes."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence

from jaxvlm.diagnostics import Interval
from jaxvlm.eval import report
from jaxvlm.study import tables
from jaxvlm.study.claims import Finding
from jaxvlm.study.design import Policy
from jaxvlm.study.results import Results, unit

# Policies that one sentence names.
_MOST_NAMED = 6


def write(
  workdir: pathlib.Path, results: Results, findings: Sequence[Finding]
) -> pathlib.Path:
  """Writes results.md, verdicts and scores, and returns its path."""
  path = workdir / "results.md"
  lines = [*_verdicts(findings), "", *_scores(results), ""]
  path.write_text("\n".join(lines), "utf-8")
  return path


def _verdicts(findings: Sequence[Finding]) -> Iterable[str]:
  yield "| claim | paper | here, 95 % for a claim's all | verdict |"
  yield "|---|---|---|---|"
  for finding in findings:
    ours = [
      f"{c.label} {_signed(c.interval, 1 if c.unit == 'points' else 3)} "
      f"{c.unit}".rstrip()
      for c in finding.contrasts
      if c.interval is not None
    ]
    if len(ours) > 3:
      ours = [*ours[:3], f"… ({len(ours)} in the report)"]
    yield (
      f"| {finding.claim.id} {finding.claim.text} | {finding.claim.paper} |"
      f" {'; '.join(ours) or tables.ABSENT} | **{finding.verdict_in_words}** |"
    )


def _scores(results: Results) -> Iterable[str]:
  main, *others = results.design.problem_sets
  columns = {
    (main, column.metric, column.digits): column.label
    for column in tables.few(results)
  }
  for name in others:
    words = name.replace("_", " ")
    if own := results.design.shown.get(name):
      columns[name, own[0], unit(own[0]).digits] = f"{words}: {own[0]}"
    else:
      columns[name, results.design.headline, 1] = f"{words}, %"
  yield f"| policy | {' | '.join(columns.values())} |"
  yield "|---" * (1 + len(columns)) + "|"
  for label, policy in _rows(results):
    cells = []
    for problem_set, metric, digits in columns:
      found = results.interval(policy, problem_set, metric)
      scale = unit(metric).scale
      absent = found is None
      cells.append(tables.ABSENT if absent else _plain(found, scale, digits))
    if any(cell != tables.ABSENT for cell in cells):
      yield f"| {label} | " + " | ".join(cells) + " |"


def _rows(results: Results) -> Iterable[tuple[str, Policy]]:
  """Yields every policy once: what no run trained first."""
  design, untrained = results.design, results.untrained
  if untrained:
    yield design.untrained_name, untrained
  yield from ((name, point) for point, name in design.references.items())
  for name, moment, policy in results.moments:
    if policy in (*design.untrained, *design.references):
      continue
    yield (f"{name}, {design.last_name} {moment}" if moment else name), policy


def in_words(results: Results, findings: Sequence[Finding]) -> str:
  """Returns the result in a few sentences."""
  design = results.design
  count: dict[str, int] = {}
  for finding in findings:
    count[finding.verdict_in_words] = count.get(finding.verdict_in_words, 0) + 1
  counted = ", ".join(f"{n} {words}" for words, n in count.items())
  sentences = []
  if findings and not results.smoke_test:
    sentences.append(f"Of {len(findings)} claims: {counted}.")
  at = {
    moment: {name: p for name, of, p in results.moments if of == moment}
    for moment in ("entry", "endpoint", "")
  }
  if design.last:
    sentences += [
      _of(results, f"At {design.last_name} entry", at["entry"], "entropy"),
      _of(
        results,
        f"After {results.last_step} steps of the same {design.last_name}"
        f"{_several(results.endpoint_steps)}",
        at["endpoint"],
        design.headline,
      ),
    ]
  beside = at[""]
  if results.untrained:
    beside = {design.untrained_name: results.untrained, **beside}
  sentences.append(
    _of(
      results,
      "Beside them" if design.last else "Here",
      beside,
      design.headline,
    )
  )
  sizes = [
    f"{results.problems(name)} {words}"
    for name, words in design.problem_sets.items()
    if results.points(name)
  ]
  seeds = results.seeds
  sentences.append(
    f"Measured on {' and '.join(sizes)} problems with {len(seeds)} "
    f"{'seed' if len(seeds) == 1 else 'seeds'} "
    f"({', '.join(map(str, seeds))})."
  )
  return " ".join(sentence for sentence in sentences if sentence)


def _of(
  results: Results, lead: str, policies: Mapping[str, Policy], metric: str
) -> str:
  """Returns a sentence of the means of some policies, where measured.

  Of many policies the lowest and the highest: the tables have them all.
  """
  main = results.design.main_set
  kind, scale, digits = unit(metric)
  sign = {"points": " %", "nats": " nats"}.get(kind, "")
  found = {
    name: results.mean(policy, main, metric)
    for name, policy in policies.items()
  }
  measured = [(name, mean) for name, mean in found.items() if mean is not None]
  between = ", "
  if len(measured) > _MOST_NAMED:
    ascending = sorted(measured, key=lambda pair: pair[1])
    measured, between = [ascending[0], ascending[-1]], " to "
  words = between.join(
    f"{report.signless(scale * mean, digits)}{sign} ({name})"
    for name, mean in measured
  )
  if not words:
    return ""
  return f"{lead}: {results.design.problem_sets[main]} {metric} {words}."


def _several(steps: Sequence[int]) -> str:
  if len(steps) < 2:
    return ""
  *most, last = map(str, steps)
  return f" (mean of the evaluations at steps {', '.join(most)} and {last})"


def _plain(i: Interval, scale: float, digits: int) -> str:
  mean, low, high = (f"{scale * x:.{digits}f}" for x in i)
  return f"{mean} [{low}, {high}]"


def _signed(i: Interval, digits: int) -> str:
  mean, low, high = (f"{x:+.{digits}f}".replace("-", "−") for x in i)
  return f"{mean} [{low}, {high}]"
