"""The study's page: claims, figures, tables, samples, settings.

Every number is computed from the files of a run; nothing is typed in but the
paper's numbers and the notes that explain a verdict.
"""

import importlib.metadata
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.stage1_entropy import claims as claims_lib
from experiments.stage1_entropy import power, tables
from experiments.stage1_entropy.claims import Finding
from experiments.stage1_entropy.figures import draw_all
from experiments.stage1_entropy.notes import Note
from jaxvlm.eval import report
from jaxvlm.study import results as results_lib
from jaxvlm.study.results import (
  ARMS,
  ENOUGH_RL_STEPS,
  NAMES,
  TEACHER,
  WARM_STARTS,
  Results,
)
from jaxvlm.study.verdicts import Verdict

_TITLE = "Does the warm start matter after RL?"
_SUBTITLE = (
  "The warm-start entropy study of arXiv 2606.09059: early-stopped SFT, "
  "over-trained SFT and on-policy distillation (OPD), then the same GRPO."
)
_MANY_CONTRASTS = 6
_PACKAGES = ("jaxvlm", "jax", "jaxlib", "flax", "optax", "numpy")


def write_report(
  workdir: pathlib.Path | str, *, notes: Mapping[str, Note] | None = None
) -> pathlib.Path:
  """Writes report.html and figures/*.png into a study's folder.

  Args:
    workdir: what `experiments.stage1_entropy.run` wrote.
    notes: claim id -> explanation printed with the claim's verdict, where its
      numbers bear it out.

  Returns:
    The path of report.html.

  Raises:
    ValueError: nothing was measured yet, or a note names no claim.
  """
  workdir = pathlib.Path(workdir)
  results = results_lib.load(workdir)
  findings = claims_lib.findings(results, notes or {})
  galleries = draw_all(results)
  folder = workdir / "figures"
  folder.mkdir(exist_ok=True)
  for gallery in galleries:
    for name, png in gallery.pictures.items():
      (folder / f"{name}.png").write_bytes(png)
  lead = [
    *_warnings(results),
    report.paragraph(_summary(results, findings), kind="lead"),
  ]
  if results.gaps:
    lead.append(report.notice("Not complete", results.gaps))
  page = report.page(
    _TITLE,
    _SUBTITLE,
    lead,
    [
      report.Section("The paper's claims", _claims(results, findings)),
      report.Section(
        "Figures",
        [
          part
          for gallery in galleries
          for part in (
            Markup("<h3>{}</h3>").format(gallery.title),
            report.gallery(
              [
                report.image(png, alt=f"{gallery.title}: {name}")
                for name, png in gallery.pictures.items()
              ],
              caption=gallery.caption,
            ),
          )
        ],
      ),
      report.Section(
        "The paper's numbers beside ours", [tables.beside(results)]
      ),
      report.Section("All measurements", tables.measurements(results)),
      report.Section("Samples", _samples(results)),
      report.Section("How this was run", _provenance(results)),
    ],
  )
  path = workdir / "report.html"
  path.write_text(page, encoding="utf-8")
  return path


def _warnings(results: Results) -> list[Markup]:
  """Returns what the reader must know before any number."""
  out = []
  if results.smoke_test:
    out.append(
      report.notice(
        "Smoke test",
        [
          f"RL took {results.last_rl_step} steps, fewer than "
          f"{ENOUGH_RL_STEPS}: this shows that everything runs. It carries no "
          "verdict, and none is given."
        ],
      )
    )
  elif len(results.seeds) == 1:
    out.append(
      report.notice(
        "One seed",
        [
          "How much a repetition would differ cannot be seen in one run. "
          "Intervals and verdicts speak of other problems, but of these very "
          "runs; how often chance between runs passes for an effect stands "
          "under “How often the rules err”."
        ],
      )
    )
  return out


def _summary(results: Results, findings: Sequence[Finding]) -> str:
  """Returns the result in a few sentences."""
  count: dict[str, int] = {}
  for finding in findings:
    count[finding.verdict_in_words] = count.get(finding.verdict_in_words, 0) + 1
  counted = ", ".join(f"{n} {words}" for words, n in count.items())
  sentences = [
    "" if results.smoke_test else f"Of {len(findings)} claims: {counted}.",
    _phrase(
      results,
      "At RL entry the policies have an entropy of {} nats",
      "entry",
      "entropy",
      3,
    ),
    _phrase(
      results,
      "after {step} steps of the same GRPO{mean} their in-domain accuracy in % "
      "is {}",
      "endpoint",
      "accuracy",
      1,
    ),
  ]
  base = results.mean(results.untrained, "in_domain", "accuracy")
  teacher = results.mean(TEACHER, "in_domain", "accuracy")
  if base is not None and teacher is not None:
    sentences.append(
      f"The base model has {100 * base:.1f} %, the teacher "
      f"{100 * teacher:.1f} %."
    )
  sizes = {
    name: results.problems(name)
    for name, points in results.scores.items()
    if points
  }
  sentences.append(
    "Measured on "
    + " and ".join(
      f"{size} {name.replace('_', '-')} problems"
      for name, size in sizes.items()
    )
    + f" with {len(results.seeds)} "
    + ("seed" if len(results.seeds) == 1 else "seeds")
    + f" ({', '.join(map(str, results.seeds))})."
  )
  return " ".join(sentence for sentence in sentences if sentence)


def _phrase(
  results: Results, form: str, moment: str, metric: str, digits: int
) -> str:
  scale = 1.0 if metric == "entropy" else 100.0
  parts = []
  for arm in WARM_STARTS:
    point = getattr(results, moment)(arm)
    found = results.mean(point, "in_domain", metric)
    if found is not None:
      value = f"{scale * found:.{digits}f}"
      parts.append(f"{value} ({NAMES[arm]})")
  if not parts:
    return ""
  several = results.endpoint_steps
  text = form.format(
    ", ".join(parts),
    step=results.last_rl_step,
    mean=f" (mean of the evaluations at steps {_listed(several)})"
    if len(several) > 1
    else "",
  )
  return text[0].upper() + text[1:] + "."


def _listed(steps: Sequence[int]) -> str:
  *most, last = map(str, steps)
  return f"{', '.join(most)} and {last}" if most else last


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


def _claims(results: Results, findings: Sequence[Finding]) -> list[Markup]:
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
      "Claims, differences and margins were written down before the runs. The "
      "intervals were changed afterwards, because "
      f"{claims_lib.TOGETHER}. Now the intervals of a claim hold together with "
      f"a probability of 95 %, over {over}, paired by problem and seed.",
      kind="soft",
    ),
    Markup('<div class="claims">{}</div>').format(Markup("").join(cards)),
  ]
  if not results.smoke_test:
    parts += [
      Markup("<h3>{}</h3>").format("How often the rules err"),
      _error_rates(results),
    ]
  return parts


_WRONG = Markup('<span class="wrong">✗ {}</span>')


def _error_rates(results: Results) -> Markup:
  """Returns the table of simulated verdicts at this run's sizes."""
  rows = []
  for rates in power.error_rates(results):
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


def _samples(results: Results) -> list[Markup]:
  """Returns problems with completions shaded by token entropy."""
  if not results.samples:
    return [report.paragraph("No samples were recorded.", kind="soft")]
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
      for arm in ARMS
      for other in results.samples.get(arm, [])[index : index + 1]
      if other["question"] == problem["question"]
      for completion in _one_a_stage(other["completions"])
    ]
    parts.append(_sample(problem, completions, high))
  return parts


def _one_a_stage(completions: Sequence[Mapping[str, Any]]) -> list:
  """Keeps the first completion of each stage."""
  stages: dict[str, Any] = {}
  for completion in completions:
    stages.setdefault(completion["stage"], completion)
  return list(stages.values())


def _sample(problem, completions, high: float) -> Markup:
  lines = [
    Markup(
      '<div><p class="who">{}, RL {} · <span class="{}">{}</span></p>{}</div>'
    ).format(
      NAMES[arm],
      completion["stage"],
      "right" if completion["correct"] else "wrong",
      "correct" if completion["correct"] else "wrong",
      report.colored_tokens(
        completion["tokens"], completion["entropies"], high
      ),
    )
    for arm, completion in completions
  ]
  picture = Markup('<img src="data:image/png;base64,{}" alt="diagram">').format(
    problem["image_png_base64"]
  )
  return Markup(
    '<div class="sample">{}<div><p><b>{}</b> Answer: {}</p>'
    '<div class="completions">{}</div></div></div>'
  ).format(
    picture, problem["question"], problem["answer"], Markup("").join(lines)
  )


def _provenance(results: Results) -> list[Markup]:
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
    tables.time_spent(results),
  ]
  if settings:
    parts.append(
      report.table(
        ("setting", "value"),
        sorted(settings.items()),
        caption="Resolved settings",
        text_columns=1,
      )
    )
  return parts


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
