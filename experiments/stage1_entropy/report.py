"""The study's page: which figures and tables it shows, the paper's numbers."""

import pathlib
from collections.abc import Mapping

from experiments.stage1_entropy import claims
from experiments.stage1_entropy.design import (
  DESIGN,
  NAMES,
  TEACHER,
  WARM_STARTS,
)
from experiments.stage1_entropy.notes import NOTES
from jaxvlm.eval import report
from jaxvlm.eval.report import Section
from jaxvlm.study import claims as claims_lib
from jaxvlm.study import galleries, page, read, tables
from jaxvlm.study.claims import Note
from jaxvlm.study.design import Point
from jaxvlm.study.galleries import Gallery, Panel
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
  findings = claims_lib.findings(results, claims.CLAIMS, notes)
  return page.write(
    workdir,
    "Does the warm start matter after RL?",
    "The warm-start entropy study of arXiv 2606.09059: early-stopped SFT, "
    "over-trained SFT and on-policy distillation (OPD), then the same GRPO.",
    results,
    findings,
    [
      page.claims(results, findings, claims.PREFACE),
      page.figures(workdir, _figures(results)),
      _beside(results),
      page.measurements(results),
      page.samples(results),
      page.provenance(results),
    ],
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
    galleries.behavior(
      results,
      [
        Panel("length", "length", "Response length", "tokens a completion"),
        Panel(
          "distinct_answers",
          "distinct_answers",
          "Answer diversity",
          "distinct answers a problem",
        ),
      ],
    ),
    galleries.journal(
      results,
      "The RL signal",
      "A group whose rewards are all equal is degenerate: it carries no "
      "gradient.",
      [
        Panel("reward", "reward/mean", "Mean reward", "reward"),
        Panel(
          "degenerate_groups",
          "reward/degenerate_groups",
          "Degenerate groups",
          "share of groups",
          percent=True,
        ),
        Panel("grad_norm", "grad/norm", "Gradient norm", "norm"),
        Panel(
          "logprob_gap",
          "rollout/logprob_gap",
          "Sampler against training forward",
          "log-probability gap, nats",
        ),
      ],
    ),
  ]


def _beside(results: Results) -> Section:
  """Returns the table of the paper's numbers."""
  opd, end, top = results.entry("opd"), results.endpoint, results.top_k
  here = f"pass@16 (here pass@{top})" if top < 16 else "pass@16"
  warm = [end(arm) for arm in WARM_STARTS]
  six = [results.entry(arm) for arm in WARM_STARTS] + warm
  rows = [
    (
      f"In-domain accuracy, %: {label}",
      paper,
      tables.level(results, policy, "in_domain", "accuracy"),
    )
    for label, paper, policy in (
      ("base", "37.8", results.untrained),
      ("base + GRPO", "47.8 (120 steps)", end("base")),
      ("teacher", "49.3", TEACHER),
      ("OPD", "50.5 (peak 51.1)", opd),
      ("OPD + GRPO", "54.2", end("opd")),
      ("early SFT + GRPO", "53–54", end("sft_early")),
      ("over-trained SFT + GRPO", "53–54", end("sft_over")),
    )
  ]
  rows += [
    (
      f"In-domain {here} at RL entry, points: OPD − {NAMES[arm]}",
      "+2.0 or +5.2",
      tables.difference(
        results, opd, results.entry(arm), "in_domain", f"pass@{top}"
      ),
    )
    for arm in ("sft_early", "sft_over")
  ]
  rows += [
    (
      f"Out-of-domain accuracy after Stage 1, points: {NAMES[arm]} − base",
      paper,
      tables.difference(
        results,
        results.entry(arm),
        results.untrained,
        "out_of_domain",
        "accuracy",
      ),
    )
    for arm, paper in (("sft_early", "+2.1"), ("sft_over", "−9.5"))
  ]
  rows += [
    (
      f"{label}, largest − smallest, points",
      paper,
      tables.spread(results, policies, problem_set, metric),
    )
    for label, paper, policies, problem_set, metric in (
      ("In-domain accuracy at the RL endpoint, three warm starts",
       "about 1", warm, "in_domain", "accuracy"),
      (f"In-domain {here} at the RL endpoint, three warm starts",
       "1.1", warm, "in_domain", f"pass@{top}"),
      (f"Out-of-domain {here}, three warm starts before and after RL",
       "1.2", six, "out_of_domain", f"pass@{top}"),
    )
  ]  # fmt: skip
  # As in the paper, whose curve begins after the first steps.
  steps = [s for s in results.steps("opd", "stage1", "in_domain") if s > 0]
  for label, paper, at in (
    ("begin", "0.119 (step 55)", steps[:1]),
    ("end", "0.115 (step 600)", steps[-1:]),
  ):
    name, ours = f"OPD entropy, {label} of Stage 1, nats", tables.ABSENT
    for step in at:
      name += f" (here step {step})"
      point = Point("opd", "stage1", step)
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
      f" Pass@16 is the paper's, pass@{top} ours: no more samples were drawn."
    )
  table = report.table(("quantity", "paper", "here"), rows, caption=caption)
  return Section("The paper's numbers beside ours", [table])
