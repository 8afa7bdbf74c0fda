"""The study's page: which figures and tables it shows, the paper's numbers."""

import functools
import pathlib
from collections.abc import Mapping

from experiments.stage1_entropy.claims import CLAIMS, PREFACE
from experiments.stage1_entropy.design import (
  DESIGN,
  TEACHER,
  WARM_STARTS,
)
from experiments.stage1_entropy.notes import NOTES
from jaxvlm.eval import report
from jaxvlm.eval.report import Section
from jaxvlm.study import galleries, page, read, tables
from jaxvlm.study.claims import Note
from jaxvlm.study.design import Point, Policy
from jaxvlm.study.galleries import Gallery
from jaxvlm.study.results import Results


def write_report(
  workdir: pathlib.Path | str, *, notes: Mapping[str, Note] = NOTES
) -> pathlib.Path:
  """Writes report.html, results.md and figures/*.png into a study's folder.

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
  results = read.load(workdir, DESIGN)
  return page.write(
    workdir,
    results,
    CLAIMS,
    title="Does the warm start matter after RL?",
    subtitle="The warm-start entropy study of arXiv 2606.09059: early-stopped "
    "SFT, over-trained SFT, on-policy distillation (OPD), then the same GRPO.",
    preface=PREFACE,
    galleries=_figures(results),
    own=[_beside(results)],
    notes=notes,
  )


def _figures(results: Results) -> list[Gallery]:
  sft, opd = "T = 1", results.tempered("opd")  # SFT reads given solutions
  return [
    galleries.entropy(
      results,
      DESIGN.stages,
      logged_at={
        "stage1": sft if opd == sft else f"{sft}; OPD: {opd}",
        "grpo": results.tempered("grpo"),
      },
      completions="The completions there are the given solutions for SFT and "
      "own samples for OPD and GRPO, so Stage 1 compares arms only in the "
      "upper row.",
    ),
    galleries.scores(
      results,
      "grpo",
      "RL",
      ("accuracy", f"pass@{results.top_k}"),
      title="Accuracy and pass@k through RL",
      caption="Mean over problems.",
    ),
    galleries.scores(
      results,
      "stage1",
      "Stage 1",
      ("accuracy",),
      title="Accuracy through Stage 1",
      caption="What each warm start learns before RL. Step 0 is the base.",
    ),
    galleries.pass_at_k(results),
    galleries.behavior(results),
    galleries.signal(results),
  ]


def _beside(results: Results) -> Section:
  """Returns the table of the paper's numbers."""
  entry, end, top = results.entry, results.endpoint, results.top_k
  pass_top = f"pass@{top}"
  passes = f"pass@16 (here {pass_top})" if top < 16 else "pass@16"
  ends = [end(arm) for arm in WARM_STARTS]
  six = [entry(arm) for arm in WARM_STARTS] + ends

  def accuracy(policy: Policy):
    return tables.level(results, policy, "in_domain", "accuracy")

  def higher(arm: str):
    pair = entry("opd"), entry(arm)
    return tables.difference(results, *pair, "in_domain", pass_top)

  def gain(arm: str):
    pair = entry(arm), results.untrained
    return tables.difference(results, *pair, "out_of_domain", "accuracy")

  spread = functools.partial(tables.spread, results)
  rows = [
    ("In-domain accuracy, %: base", "37.8", accuracy(results.untrained)),
    ("… base + GRPO", "47.8 (120 steps)", accuracy(end("base"))),
    ("… teacher", "49.3", accuracy(TEACHER)),
    ("… OPD", "50.5 (peak 51.1)", accuracy(entry("opd"))),
    ("… OPD + GRPO", "54.2", accuracy(end("opd"))),
    ("… early SFT + GRPO", "53–54", accuracy(end("sft_early"))),
    ("… over-trained SFT + GRPO", "53–54", accuracy(end("sft_over"))),
    (f"In-domain {passes} at RL entry, points: OPD − early SFT",
     "+2.0 or +5.2", higher("sft_early")),
    ("… OPD − over-trained SFT", "+2.0 or +5.2", higher("sft_over")),
    ("Out-of-domain accuracy after Stage 1, points: early SFT − base",
     "+2.1", gain("sft_early")),
    ("… over-trained SFT − base", "−9.5", gain("sft_over")),
    ("At the RL endpoint, largest − smallest of three warm starts, points: "
     "in-domain accuracy", "about 1", spread(ends, "in_domain", "accuracy")),
    (f"… in-domain {passes}", "1.1", spread(ends, "in_domain", pass_top)),
    (f"… out-of-domain {passes}, before and after RL",
     "1.2", spread(six, "out_of_domain", pass_top)),
  ]  # fmt: skip
  # As in the paper, whose curve begins after the first steps.
  steps = [s for s in results.steps("opd", "stage1", "in_domain") if s > 0]
  papers = ("begin", "0.119 (step 55)"), ("end", "0.115 (step 600)")
  for (when, paper), at in zip(papers, (steps[:1], steps[-1:]), strict=True):
    name, ours = f"OPD entropy, {when} of Stage 1, nats", tables.ABSENT
    for step in at:
      name, point = f"{name} (here step {step})", Point("opd", "stage1", step)
      ours = tables.level(results, point, "in_domain", "entropy")
    rows.append((name, paper, ours))
  caption = (
    "Paper: Qwen2.5-VL-7B from a 72B teacher, Geometry3K (601 problems) and "
    "MathVista. Here: the models and problems under “How this was run”; "
    "where they are others, directions and ratios compare, levels do not. "
    f"95 % intervals{tables.over(results)}, each by itself."
  )
  if top < 16:
    caption += (
      f" Pass@16 is the paper's, {pass_top} ours: no more samples were drawn."
    )
  table = report.table(("quantity", "paper", "here"), rows, caption=caption)
  return Section("The paper's numbers beside ours", [table])
