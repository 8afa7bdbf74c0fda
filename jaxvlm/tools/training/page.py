"""The page of one run: curves, answers painted by entropy, settings."""

import pathlib

from jaxvlm.eval import figures, report
from jaxvlm.eval.figures import Picture
from jaxvlm.study import galleries, read, tables
from jaxvlm.study import page as pages
from jaxvlm.study.design import Design
from jaxvlm.study.galleries import Gallery, Panel
from jaxvlm.study.results import Results
from jaxvlm.tools.training.config import ARM, RunConfig

_PANELS = (
  Panel("loss", "loss/total", "Loss", "loss"),
  Panel("entropy", "policy/entropy", "Entropy", "nats a token"),
  *galleries.SIGNAL,
  Panel("length", "rollout/length", "Length of completions", "tokens"),
  Panel("failed", "reward/failed", "Failed rewards", "share of answers", True),
)
_HELD_OUT = ("loss/nll", "loss/dpo", "loss/cw_dpo", "loss/focal_dpo")


def write(
  workdir: pathlib.Path, config: RunConfig, held_out: str
) -> pathlib.Path:
  """Writes report.html and figures/*.png; returns the page's path."""
  name = config.objective
  design = Design(
    arms={ARM: name},
    problem_sets={held_out: "held-out"},
    stages={name: name},
    last=name,
    last_name="step",
    command="jaxvlm train",
  )
  results = read.load(workdir, design, must_measure=False)
  sections = [pages.figures(workdir, _galleries(results, name, held_out))]
  if results.points(held_out):
    sections.append(
      report.Section("Held-out rows", tables.measurements(results))
    )
  sections += [pages.samples(results), pages.provenance(results)]
  path = workdir / "report.html"
  text = report.page(
    f"{name}: {config.stage.steps} steps",
    f"{config.data.path}, from {config.model_dir}",
    [report.notice("Not complete", results.gaps)] if results.gaps else [],
    sections,
  )
  path.write_text(text, "utf-8")
  return path


def _galleries(results: Results, stage: str, held_out: str) -> list[Gallery]:
  logged = {
    panel.name: curves
    for panel in _PANELS
    if (curves := galleries.logged(results, stage, panel.key))
  }
  by_name = {panel.name: panel for panel in _PANELS}
  pictures = {
    name: figures.panel(
      curves,
      title=by_name[name].title,
      xlabel="step",
      ylabel=by_name[name].label,
      percent=by_name[name].percent,
    )
    for name, curves in logged.items()
  }
  found = [
    Gallery(
      "What every step logged",
      "Thick: running mean; faint: every step.",
      pictures,
    )
  ]
  measured = _measured(results, stage, held_out)
  if measured:
    found.append(
      Gallery(
        "Rows that are not learned", "Step 0 is before the first.", measured
      )
    )
  return found


def _measured(
  results: Results, stage: str, held_out: str
) -> dict[str, Picture]:
  """Returns panels of what was measured on held-out rows."""
  prefix = f"eval/{held_out}/"
  records = [
    record
    for of in results.journals.get((ARM, stage), {}).values()
    for record in of
  ]
  keys = sorted({k for r in records for k in r if k.startswith(prefix)})
  out = {}
  for key in keys:
    curves = galleries.logged(results, stage, key)
    name = key.removeprefix(prefix)
    out["held_out_" + name.replace("/", "_").replace("@", "_at_")] = (
      figures.panel(
        curves, title=f"held-out: {name}", xlabel="step", ylabel=name
      )
    )
  return out
