"""One evaluation as numbers with intervals, and the page that shows it."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from jaxvlm.data import images
from jaxvlm.data.rows import Row
from jaxvlm.diagnostics import bootstrap_interval
from jaxvlm.diagnostics.bootstrap import Interval, paired_bootstrap
from jaxvlm.eval import dynamics, report
from jaxvlm.eval.harness import Evaluation, ProblemSet
from jaxvlm.eval.report import Section
from jaxvlm.eval.votes import Votes, vote

_KS = (2, 4, 8, 16, 32, 64, 128)
_WORST = 12
_SIDE = 340  # pixels of the longer side of a picture on the page


def per_problem(
  evaluation: Evaluation, metrics: Sequence[str]
) -> dict[str, np.ndarray]:
  """Returns f64[P] by name: the task's scores and what follows from them."""
  n = evaluation.lengths.shape[1]
  found = {}
  for name in metrics:
    found[name] = evaluation.scores[name].mean(1, dtype=np.float64)
    if name == "accuracy":
      found |= {f"pass@{k}": evaluation.pass_at(k) for k in _KS if k <= n}
  if "accuracy" in metrics:
    votes = vote(evaluation)
    found["majority vote"] = votes.correct.astype(np.float64)
    found["Brier"] = votes.brier
  return found | {
    "entropy (nats)": np.asarray(evaluation.entropy(), np.float64),
    "length (tokens)": evaluation.lengths.mean(1, dtype=np.float64),
    "finished": evaluation.finished.mean(1, dtype=np.float64),
    "distinct answers": evaluation.distinct_answers(),
  }


def _bounds(name: str) -> tuple[float, float] | None:
  shares = ("accuracy", "majority vote", "Brier", "finished", "format")
  return (0.0, 1.0) if name in shares or name.startswith("pass@") else None


def intervals(values: Mapping[str, np.ndarray]) -> dict[str, Interval]:
  """Returns the mean over problems of each with its 95 % interval."""
  return {
    name: bootstrap_interval(of, bounds=_bounds(name))
    for name, of in values.items()
  }


def differences(
  values: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]
) -> dict[str, Interval]:
  """Returns mean(a − b) of each with its paired interval over problems."""
  return {
    name: paired_bootstrap(
      of, others[name], bounds=(-1.0, 1.0) if _bounds(name) else None
    )
    for name, of in values.items()
    if name in others
  }


def in_lines(found: Mapping[str, Interval]) -> list[str]:
  """Returns one line for each number."""
  return [
    f"  {name:16s}{i.mean:7.3f}   [{i.low:.3f}, {i.high:.3f}]"
    for name, i in found.items()
  ]


def plain(found: Mapping[str, Interval]) -> dict[str, list[float]]:
  """Returns name -> [mean, low, high], as JSON holds it."""
  return {
    name: [float(value) if np.isfinite(value) else None for value in interval]
    for name, interval in found.items()
  }


def calibration(evaluation: Evaluation) -> dict[str, Any]:
  """Returns ECE and reliability of the majority's answers, as JSON holds it."""
  if "accuracy" not in evaluation.scores:
    return {}
  bins = vote(evaluation).bins()
  arrays = {name: x.tolist() for name, x in bins._asdict().items()}
  return {"ECE": float(bins.error), "reliability": arrays}


def page(
  problems: ProblemSet,
  evaluation: Evaluation,
  record: Mapping[str, Any],
  against: Mapping[str, Interval] | None = None,
) -> str:
  """Returns an HTML page: numbers, reliability, the worst problems.

  Args:
    problems: what was measured.
    evaluation: of them.
    record: what repeats the measurement; its settings are shown.
    against: differences to another model on the same problems.
  """
  metrics = problems.task.metrics
  found = intervals(per_problem(evaluation, metrics))
  sections = [
    Section("Scores", [_table(found, "95 % intervals over problems")])
  ]
  if against:
    told = f"This model minus {record.get('against', 'the other')}, paired."
    sections.append(Section("Difference", [_table(against, told)]))
  votes = vote(evaluation) if "accuracy" in metrics else None
  if votes:
    sections.append(Section("Does it know?", _reliability(votes)))
  sections.append(
    Section("Worst problems", _worst(problems, evaluation, votes))
  )
  rows = sorted((k, str(v)) for k, v in record.items() if k != "scores")
  told = "What the numbers depend on"
  sections.append(
    Section(
      "How this was measured",
      [report.table(("setting", "value"), rows, caption=told)],
    )
  )
  n = evaluation.lengths.shape[1]
  return report.page(
    f"{problems.name}: {problems.task.name}",
    f"{len(problems.rows)} problems × {n} samples, {problems.asked} asked for",
    [],
    sections,
  )


def _table(found: Mapping[str, Interval], caption: str) -> Markup:
  rows = [(name, report.number(*i, digits=3)) for name, i in found.items()]
  return report.table(("number", "mean"), rows, caption=caption)


def _reliability(votes: Votes) -> list[Markup]:
  bins = votes.bins()
  with np.errstate(invalid="ignore"):  # NaN where a bin is empty
    confidence, right = bins.confidence / bins.count, bins.correct / bins.count
  picture = dynamics.reliability(
    confidence,
    right,
    bins.count / bins.count.sum(),
    title="Reliability of the majority's answer",
    confidence_of="share of samples that agree",
  )
  told = (
    "Confidence is the share of a problem's samples that give its most"
    " frequent answer. Expected calibration error, 15 equal bins:"
    f" {float(bins.error):.3f}; Brier score: {votes.brier.mean():.3f}."
  )
  shown = report.image(picture.png, alt="reliability")
  return [report.gallery([shown], caption=told)]


def _worst(
  problems: ProblemSet, evaluation: Evaluation, votes: Votes | None
) -> list[Markup]:
  """Returns the problems that went worst, those of the surest first."""
  score = evaluation.scores[problems.task.metrics[0]].mean(1)
  sure = votes.confidence if votes else np.zeros(len(score))
  order = np.lexsort((-sure, score))[:_WORST]
  return [
    _problem(problems.rows[i], evaluation, int(i), problems.task.metrics[0])
    for i in order
  ]


def _problem(
  row: Row, evaluation: Evaluation, number: int, headline: str
) -> Markup:
  answers = evaluation.answers[number]
  right = evaluation.scores[headline][number]
  counts: dict[str, int] = {}
  for answer in answers:
    counts[answer] = counts.get(answer, 0) + 1
  listed = "; ".join(
    f"{count} × {answer[:120] or '(no answer)'}"
    for answer, count in sorted(counts.items(), key=lambda c: -c[1])[:6]
  )
  return Markup(
    '<div class="sample">{}<div><p><b>{}</b></p><p>{}</p><p>Answer: {}</p>'
    '<p class="who">{} {:.2f} · {}</p></div></div>'
  ).format(
    Markup("").join(_pictures(row)),
    row.id,
    row.question,
    row.reference_text,
    headline,
    float(right.mean()),
    listed,
  )


def _pictures(row: Row) -> list[Markup]:
  found = []
  for picture in row.images[:2]:
    shown = images.load(picture)
    shown.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    shown.save(stream, "PNG")
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    found.append(
      Markup('<img src="data:image/png;base64,{}" alt="picture">').format(text)
    )
  return found
