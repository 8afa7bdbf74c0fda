"""A study's page: claims, figures, measurements, samples, settings.

Every number is computed from the files of a run; nothing is typed in but the
paper's numbers and the notes that explain a verdict.
"""

import importlib.metadata
import pathlib
import platform
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from jaxvlm.eval import report
from jaxvlm.eval.report import Section
from jaxvlm.study import claims as claims_lib
from jaxvlm.study import measured, power, summary, tables
from jaxvlm.study.claims import Claim, Finding, Note
from jaxvlm.study.galleries import Gallery
from jaxvlm.study.results import Results
from jaxvlm.study.verdicts import Verdict

_MANY_CONTRASTS = 6
_PACKAGES = ("jaxvlm", "jax", "jaxlib", "flax", "optax", "numpy")


def write(
  workdir: pathlib.Path,
  results: Results,
  claims: Sequence[Claim],
  *,
  title: str,
  subtitle: str = "",
  preface: str,
  galleries: Sequence[Gallery] = (),
  own: Sequence[Section] = (),
  notes: Mapping[str, Note] = types.MappingProxyType({}),
) -> pathlib.Path:
  """Writes a study's page: report.html, results.md and figures/*.png.

  What was measured is written beside it (`measured.write`).

  Args:
    workdir: the study's folder.
    results: what was measured.
    claims: what is decided.
    title: heading.
    subtitle: one line below it.
    preface: when claims and rules were written, and what was changed since.
    galleries: the figures.
    own: what the study shows besides, after the figures.
    notes: claim id -> explanation printed with the claim's verdict, where its
      numbers bear it out.

  Returns:
    The path of report.html.

  Raises:
    ValueError: a note names no claim.
  """
  findings = claims_lib.findings(results, claims, notes)
  lead = [
    *_warnings(results, findings),
    report.paragraph(summary.in_words(results, findings), kind="lead"),
  ]
  if results.gaps:
    lead.append(report.notice("Not complete", results.gaps))
  summary.write(workdir, results, findings)
  if results.design.stages:  # what trains nothing is measured again in minutes
    measured.write(workdir, results)
  path = workdir / "report.html"
  sections = [
    _claims(results, findings, preface),
    figures(workdir, galleries),
    *own,
    Section("All measurements", tables.measurements(results)),
    samples(results),
    provenance(results),
  ]
  path.write_text(report.page(title, subtitle, lead, sections), "utf-8")
  return path


def figures(workdir: pathlib.Path, galleries: Sequence[Gallery]) -> Section:
  """Returns the pictures; figures/ gets them, each with its numbers as CSV.

  Empty ones, of what was not measured, are left out.
  """
  folder = workdir / "figures"
  folder.mkdir(exist_ok=True)
  parts = []
  for gallery in galleries:
    drawn = {name: of for name, of in gallery.pictures.items() if of}
    if not drawn:
      continue
    for name, picture in drawn.items():
      (folder / f"{name}.png").write_bytes(picture.png)
      (folder / f"{name}.csv").write_text(picture.csv, "utf-8")
    pictures = [
      report.image(picture.png, alt=f"{gallery.title}: {name}")
      for name, picture in drawn.items()
    ]
    parts += [
      Markup("<h3>{}</h3>").format(gallery.title),
      report.gallery(pictures, caption=gallery.caption),
    ]
  return Section("Figures", parts)


def _warnings(results: Results, findings: Sequence[Finding]) -> list[Markup]:
  """Returns what the reader must know before any number."""
  if results.smoke_test:
    text = (
      f"{results.design.last_name} took {results.last_step} steps, fewer than "
      f"{results.design.enough_steps}: this shows that everything runs. It "
      "carries no verdict, and none is given."
    )
    return [report.notice("Smoke test", [text])]
  if len(results.seeds) == 1 and results.design.last:
    text = (
      "How much a repetition would differ cannot be seen in one run. "
      "Intervals and verdicts speak of other problems, but of these very runs"
    )
    if any(finding.claim.effect for finding in findings):
      text += (
        "; how often chance between runs passes for an effect stands under "
        "“How often the rules err”"
      )
    return [report.notice("One seed", [f"{text}."])]
  return []


_CLAIM = Markup("""\
<article class="claim {kind}">
<header><p>{id} · {text}</p><span class="verdict">{verdict}</span></header>
<div class="columns">
<dl><dt>paper</dt><dd>{paper}</dd></dl>
<dl><dt>here, 95 %, all together{seeds}</dt>{ours}</dl>
</div>
<p class="rule">{rule} {changed}</p>
{note}
</article>""")


def _claims(
  results: Results, findings: Sequence[Finding], preface: str
) -> Section:
  """Returns a card for each claim, then how often the rules err."""
  cards = [
    _CLAIM.format(
      kind=finding.verdict.value.replace(" ", "-"),
      id=finding.claim.id,
      text=finding.claim.text,
      verdict=finding.verdict_in_words,
      paper=finding.claim.paper,
      seeds=" (each seed)" if len(results.seeds) > 1 else "",
      ours=Markup("").join(_contrasts(finding, len(results.seeds) > 1)),
      rule=finding.claim.rule,
      changed=finding.claim.changed,
      note=(
        Markup('<p class="note">{}</p>').format(finding.note)
        if finding.note
        else ""
      ),
    )
    for finding in findings
  ]
  over = (
    "problems and runs"
    if len(results.seeds) > 1
    else "problems, not over runs, of which there is one"
  )
  parts = [
    report.paragraph(
      f"{preface} The intervals of a claim hold together with a probability of "
      f"95 %, over {over}, paired by problem and seed.",
      kind="soft",
    ),
    Markup('<div class="claims">{}</div>').format(Markup("").join(cards)),
  ]
  simulated = [finding.claim for finding in findings if finding.claim.effect]
  if simulated and not results.smoke_test:
    rates = power.error_rates(results, simulated)
    parts += [
      Markup("<h3>{}</h3>").format("How often the rules err"),
      _error_rates(results, rates),
    ]
  return Section("The paper's claims", parts)


_WRONG = Markup('<span class="wrong">✗ {}</span>')


def _error_rates(results: Results, found: Sequence[power.Rates]) -> Markup:
  """Returns the table of simulated verdicts at this run's sizes."""
  rows = []
  for rates in found:
    cells = []
    for truth, holds in (
      (rates.equal, not rates.claim.claims_difference),
      (rates.paper, True),
    ):
      for verdict in (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED):
        share = f"{100 * truth[verdict]:.0f}"
        wrong = holds is not (verdict is Verdict.REPRODUCED)
        cells.append(_WRONG.format(share) if wrong else share)
    rows.append((rates.claim.id, *cells))
  seeds = len(results.seeds)
  return report.table(
    (
      "claim",
      "equal policies: reproduced, %",
      "not reproduced, %",
      "the paper's effect: reproduced, %",
      "not reproduced, %",
    ),
    rows,
    caption=(
      "Simulated studies with the problems, samples and "
      f"{seeds} {'seed' if seeds == 1 else 'seeds'} of this one, and a "
      f"standard deviation between runs of {power.RUN_POINTS:g} points (of an "
      f"entropy, {100 * power.RUN_SHARE:.0f} %; ours). ✗: wrong verdicts. "
      "The rest to 100 % is inconclusive."
    ),
    text_columns=1,
  )


def _contrasts(finding: Finding, each_seed: bool) -> list[Markup]:
  """Returns a line per contrast; of very many only the largest."""
  contrasts = list(finding.contrasts)
  if not contrasts:
    return [Markup("<dd>not measured</dd>")]
  rest = []
  if len(contrasts) > _MANY_CONTRASTS:
    contrasts.sort(key=lambda c: -abs(c.interval.mean) if c.interval else 0.0)
    contrasts, rest = contrasts[:3], contrasts[3:]
  lines = []
  for contrast in contrasts:
    digits = 1 if contrast.unit == "points" else 3
    if contrast.interval is None:
      lines.append(Markup("<dd>{}: not measured</dd>").format(contrast.label))
      continue
    seeds = ", ".join(
      report.signed(value, digits) for value in contrast.per_seed.values()
    )
    lines.append(
      Markup("<dd>{}: {} {}{}</dd>").format(
        contrast.label,
        report.difference(*contrast.interval, digits),
        contrast.unit,
        Markup(' <span class="ci">({})</span>').format(seeds)
        if each_seed
        else "",
      )
    )
  if rest:
    missing = sum(contrast.interval is None for contrast in rest)
    text = f"and {len(rest) - missing} smaller ones"
    if missing:
      text += f", {missing} not measured"
    lines.append(Markup("<dd>{}</dd>").format(text))
  return lines


def samples(results: Results) -> Section:
  """Returns problems with completions shaded by token entropy."""
  if not results.samples:
    nothing = report.paragraph("No samples were recorded.", kind="soft")
    return Section("Samples", [nothing])
  entropies = [
    entropy
    for problems in results.samples.values()
    for problem in problems
    for completion in problem["completions"]
    for entropy in completion["entropies"]
  ]
  high = max(float(np.quantile(entropies, 0.98)), 0.1) if entropies else 1.0
  parts = [report.shade_legend(high, "Entropy of the next token, nats:")]
  first = next(iter(results.samples.values()))
  for index, problem in enumerate(first):
    completions = [
      (arm, completion)
      for arm in results.design.arms
      for other in results.samples.get(arm, [])[index : index + 1]
      if other["question"] == problem["question"]
      for completion in _one_a_stage(other["completions"])
    ]
    parts.append(_sample(results, problem, completions, high))
  return Section("Samples", parts)


def _one_a_stage(completions: Sequence[Mapping[str, Any]]) -> list:
  """Keeps the first completion of each stage."""
  stages: dict[str, Any] = {}
  for completion in completions:
    stages.setdefault(completion["stage"], completion)
  return list(stages.values())


def _sample(results: Results, problem, completions, high: float) -> Markup:
  design = results.design
  lines = [
    Markup('<div><p class="who">{}, {} {} · {}</p>{}</div>').format(
      design.arms[arm],
      design.last_name,
      completion["stage"],
      _judged(completion),
      report.colored_tokens(
        completion["tokens"], completion["entropies"], high
      ),
    )
    for arm, completion in completions
  ]
  picture = ""
  if png := problem["image_png_base64"]:
    picture = Markup('<img src="data:image/png;base64,{}" alt="picture">')
    picture = picture.format(png)
  return Markup(
    '<div class="sample">{}<div><p><b>{}</b> Answer: {}</p>'
    '<div class="completions">{}</div></div></div>'
  ).format(
    picture, problem["question"], problem["answer"], Markup("").join(lines)
  )


def _judged(completion: Mapping[str, Any]) -> Markup | str:
  """Returns right or wrong, or what else was said of a completion."""
  if "said" in completion:
    return completion["said"]
  kind, word = ("right", "correct") if completion["correct"] else ("wrong",) * 2
  return Markup('<span class="{}">{}</span>').format(kind, word)


def provenance(results: Results) -> Section:
  """Returns command, versions, time and settings."""
  settings = dict(_flatten(results.config))
  command = settings.pop("command", "not recorded")
  versions = ", ".join(
    [f"Python {platform.python_version()}"]
    + [f"{name} {_version(name)}" for name in _PACKAGES]
  )
  parts = [
    Markup("<p>Command: <code>{}</code></p>").format(command),
    report.paragraph(
      f"Seeds: {', '.join(map(str, results.seeds))}. This page was made with "
      f"{versions}."
    ),
  ]
  if results.journals:
    parts.append(tables.time_spent(results))
  if settings:
    parts.append(
      report.table(
        ("setting", "value"),
        sorted(settings.items()),
        caption="Resolved settings",
        text_columns=1,
      )
    )
  return Section("How this was run", parts)


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return "not installed"


def _flatten(value: Any, name: str = "") -> list[tuple[str, str]]:
  if isinstance(value, Mapping):
    return [
      item
      for key, inner in value.items()
      for item in _flatten(inner, f"{name}.{key}" if name else str(key))
    ]
  if isinstance(value, list):
    value = ", ".join(map(str, value))
  return [(name, str(value))]
