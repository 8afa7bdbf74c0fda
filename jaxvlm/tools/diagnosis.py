"""What `jaxvlm diagnose` found, in words, figures and a page."""

from collections.abc import Mapping, Sequence

from jaxvlm.diagnostics import Interval, headroom_threshold
from jaxvlm.diagnostics.readiness import Readiness
from jaxvlm.eval import report, spreads
from jaxvlm.eval.figures import Picture
from jaxvlm.eval.report import Section


def in_words(found: Readiness, place: int | None) -> str:
  """Returns the verdict on a checkpoint as lines of a terminal.

  Args:
    found: what is known.
    place: in the ranking; None for one alone.
  """
  rank = "" if place is None else f"{place}. "
  lines = [f"{rank}{found.name}: {found.advice.value}"]
  lines += [f"  - {reason}" for reason in found.reasons]
  lines += [f"  {label:28s}{text}" for label, text in _numbers(found)]
  return "\n".join(lines) + "\n"


def _numbers(found: Readiness) -> list[tuple[str, str]]:
  groups = found.headroom
  out = [
    (f"pass@{k}", _text(interval)) for k, interval in found.pass_at.items()
  ]
  if found.prompt_entropy is not None:
    out.append(("entropy, prompt (nats)", _text(found.prompt_entropy)))
  out += [
    ("entropy, own tokens (nats)", _text(found.completion_entropy)),
    (f"useful groups of {groups.group}", _text(groups.useful)),
    ("  as the mean would say", f"{groups.useful_at_mean:.3f}"),
    ("variance of a group", _text(groups.variance)),
    ("  as the mean would say", f"{groups.variance_at_mean:.3f}"),
    ("group for half to be useful", _size(found)),
    ("different answers", _text(found.distinct)),
    ("most common answer", f"{found.mode:.3f}"),
  ]
  return out


def _text(interval: Interval) -> str:
  return f"{interval.mean:.3f}   [{interval.low:.3f}, {interval.high:.3f}]"


def _size(found: Readiness) -> str:
  sizes = found.group
  beyond = f"more than {found.samples}"
  size, least, most = (str(s) if s else beyond for s in sizes)
  return f"{size}   [{least}, {most}]"


def figures(ranked: Sequence[Readiness]) -> dict[str, Picture]:
  """Returns entropy against pass@1, and pass rates of prompts, by name."""
  points = []
  for found in ranked:
    entropy, rate = found.entropy, found.pass_at[1]
    points.append(
      spreads.Point(
        _short(found.name),
        entropy.mean,
        rate.mean,
        (entropy.low, entropy.high),
        (rate.low, rate.high),
      )
    )
  over = "prompt" if ranked[0].prompt_entropy is not None else "own"
  out = {
    "entropy_pass": spreads.scatter(
      points,
      title="Entropy before RL and pass@1",
      xlabel=f"mean entropy over {over} tokens, nats",
      ylabel="pass@1",
      limit=("threshold", ranked[0].threshold),
    )
  }
  for number, found in enumerate(ranked, 1):
    group = found.headroom.group
    limit = headroom_threshold(group)
    out[f"headroom_{number}"] = spreads.histogram(
      found.headroom.rates,
      title=f"{_short(found.name)}: pass rate of each problem",
      xlabel=f"share of right samples, of {found.samples}",
      ylabel="problems",
      limits=((f"p*({group})", limit), (f"1 − p*({group})", 1 - limit)),
    )
  return out


def _short(name: str) -> str:
  return name.rstrip("/").rpartition("/")[2]


def page(
  task: str, ranked: Sequence[Readiness], pictures: Mapping[str, Picture]
) -> str:
  """Returns a self-contained HTML page.

  Args:
    task: its name.
    ranked: checkpoints, the best start first.
    pictures: from `figures`.
  """
  best = ranked[0]
  by_score = max(ranked, key=lambda found: found.pass_at[1].mean)
  lead = [report.paragraph(f"{best.name}: {best.advice.value}.", kind="lead")]
  if by_score.name != best.name:
    lead.append(
      report.paragraph(
        f"The best score, pass@1 {by_score.pass_at[1].mean:.3f}, is that of"
        f" {by_score.name}, not the best start by entropy and headroom."
      )
    )
  sections = [Section("Checkpoints", [_table(ranked), _gallery(pictures)])]
  sections += [
    Section(
      f"{number}. {found.name}: {found.advice.value}",
      [
        report.notice("Why", found.reasons),
        report.table(
          ("", "mean and 95 % interval"),
          _numbers(found),
          caption="What was measured; intervals are over problems.",
        ),
      ],
    )
    for number, found in enumerate(ranked, 1)
  ]
  group = best.headroom.group
  subtitle = (
    f"Task {task}, {len(best.headroom.rates)} problems × {best.samples}"
    f" samples, groups of {group}; theory of arXiv 2606.18487"
  )
  return report.page("Before RL", subtitle, lead, sections)


def _table(ranked: Sequence[Readiness]):
  header = ("", "verdict", "entropy", "pass@1", "useful groups")
  rows = [
    (
      found.name,
      found.advice.value,
      *(
        report.number(*interval, digits=3)
        for interval in (
          found.entropy,
          found.pass_at[1],
          found.headroom.useful,
        )
      ),
    )
    for found in ranked
  ]
  return report.table(
    header,
    rows,
    caption="The best start first: by verdict, then by useful groups.",
    text_columns=2,
  )


def _gallery(pictures: Mapping[str, Picture]):
  return report.gallery(
    [report.image(of.png, alt=name) for name, of in pictures.items()],
    caption=(
      "Bars are 95 % intervals over problems. A problem whose rate lies outside"
      " of the two lines gives a gradient in fewer than half of its groups."
    ),
  )
