"""The study's page: which figures and tables it shows, the paper's numbers."""

import pathlib
from types import SimpleNamespace

import numpy as np

from experiments.cw_dpo import margins
from experiments.cw_dpo.claims import CLAIMS, PREFACE
from experiments.cw_dpo.design import ARMS, DESIGN, NAMES, STAGE1
from jaxvlm.diagnostics import preference
from jaxvlm.diagnostics.probes import CLASSES
from jaxvlm.eval import dynamics, figures, report
from jaxvlm.eval.figures import Picture
from jaxvlm.eval.report import Section
from jaxvlm.study import galleries, page, read, tables
from jaxvlm.study.design import Point, Policy
from jaxvlm.study.galleries import Gallery, Panel
from jaxvlm.study.probing import BINS, SET
from jaxvlm.study.results import Results

_DRIFT = (
  Panel("tv", "total_variation/chosen", "Total variation", "½ Σ |p − q|"),
  Panel("js", "jensen_shannon/chosen", "Jensen-Shannon", "nats"),
  Panel("top1", "top1/chosen", "Sharpness", "top-1 probability", True),
  Panel("ece", "ece", "Calibration", "expected calibration error"),
  Panel("probe_entropy", "entropy/chosen", "Entropy", "nats"),
  Panel("argmax", "argmax_logprob/chosen", "Argmax", "log p, nats"),
  Panel("rest", "rest_logprob/chosen", "All but the argmax", "log mass, nats"),
  Panel("winner", "shift/chosen", "Chosen captions", "Δ log p, nats"),
)

# Classes of probes in a legend.
_LABELS = dict(
  zip(
    CLASSES,
    ("chosen", "paraphrase", "one word", "cut off", "other picture",
     "shuffled", "own wrong", "random"),
    strict=True,
  )
)  # fmt: skip


def write_report(workdir: pathlib.Path | str) -> pathlib.Path:
  """Writes report.html, results.md and figures/*.png into a study's folder.

  Args:
    workdir: what `experiments.cw_dpo.run` wrote.

  Returns:
    The path of report.html.

  Raises:
    ValueError: nothing was measured yet.
  """
  workdir = pathlib.Path(workdir)
  results = read.load(workdir, DESIGN)
  return page.write(
    workdir,
    results,
    CLAIMS,
    title="What does one update do to everything else?",
    subtitle="The learning dynamics of arXiv 2510.11978: SFT or SFT-C, then "
    "DPO, Focal-DPO or CW-DPO, watched by probes.",
    preface=PREFACE,
    galleries=[*_figures(results), *_files(workdir, results)],
    own=[_beside(results), _matched(results), _ablations(results)],
  )


def _figures(results: Results) -> list[Gallery]:
  stages = results.design.stages
  return [
    galleries.entropy(
      results,
      stages,
      logged_at=dict.fromkeys(stages, "T = 1"),
      completions="The completions there are the chosen and rejected captions "
      "of the batch.",
    ),
    *(
      galleries.scores(
        results,
        stage,
        name,
        _scores(results),
        title=f"Captions through {name}",
        caption="Exact: all is said and right. Meaning: F over all facts. "
        "CIDEr: CIDEr-D against the references.",
      )
      for stage, name in stages.items()
    ),
    *(_drift(results, stage, name) for stage, name in stages.items()),
    _probes(results),
    galleries.signal(
      results, (Panel("grad_norm", "grad/norm", "Gradient norm", "norm"),)
    ),
  ]


def _scores(results: Results) -> tuple[str, ...]:
  """Returns the scores that the data set has."""
  measured = {
    name
    for by_seed in results.points("validation").values()
    for scores in by_seed.values()
    for name in scores
  }
  return tuple(s for s in ("exact", "meaning", "CIDEr") if s in measured)


def _drift(results: Results, stage: str, name: str) -> Gallery:
  """The paper's Figure 4, of either stage, with what else the probes say."""
  return Gallery(
    f"The probe set through {name}",
    "Held-out pictures, at the tokens of their chosen captions; distances are "
    "from the policy that the stage begins with. ECE: 15 equal bins of the "
    "top-1 probability against the caption's token. The paper's Stage 2: TV "
    "0.45 (DPO) and 0.15 (CW-DPO), JS 0.30 and 0.10, top-1 above 80 % and "
    "50–60 %, ECE 0.25 and 0.08–0.10.",
    {
      f"{stage}_{panel.name}": figures.panel(
        galleries.logged(results, stage, f"probe/{panel.key}"),
        title=f"{name}: {panel.title}",
        xlabel=f"{name} step",
        ylabel=panel.label,
        percent=panel.percent,
      )
      for panel in _DRIFT
    },
  )


def _probes(results: Results) -> Gallery:
  """Δ log p of every class along the stages of every arm."""
  looks = list(galleries.styles(DESIGN).values())
  pictures = {}
  for arm, name in DESIGN.arms.items():
    stage = "stage1" if arm in STAGE1 else "stage2"
    journals = results.journals.get((arm, stage))
    if not journals:
      continue
    curves = []
    for look, of in zip(looks, CLASSES, strict=False):
      key = f"probe/shift/{of}"
      steps, means = mean_over_seeds(journals.values(), key)
      if steps:
        # One class more than there are colors: its line is dotted.
        dash = ":" if of == CLASSES[-1] else look.dash
        style = figures.Style(_LABELS[of], look.color, look.marker, dash)
        curves.append(figures.Curve(style, np.array(steps), np.array(means)))
    pictures[f"probes_{arm}"] = figures.panel(
      curves,
      title=name,
      xlabel=f"{DESIGN.stages[stage]} step",
      ylabel="Δ log p of a completion, nats",
    )
  return Gallery(
    "What the steps did to completions of every class",
    "Change of the summed log-probability since the stage began, mean over the "
    "probe set and seeds.",
    pictures,
  )


def mean_over_seeds(journals, key: str) -> tuple[list[int], list[float]]:
  """Returns (steps, means over seeds) of what was logged under a key."""
  found: dict[int, list[float]] = {}
  for records in journals:
    for record in records:
      if key in record:
        found.setdefault(record["step"], []).append(record[key])
  steps = sorted(found)
  return steps, [float(np.mean(found[step])) for step in steps]


def _files(workdir: pathlib.Path, results: Results) -> list[Gallery]:
  """Returns the figures of the first seed that the results do not hold."""
  seed, step = results.seeds[0], results.last_step
  parts, reliable = {}, {}
  for arm, name in DESIGN.arms.items():
    folder = workdir / f"seed-{seed}" / arm / "stage2"
    path = folder / f"margins-{step:05d}.npz"
    if path.is_file():
      with np.load(path, allow_pickle=False) as arrays:
        parts |= _parts(arm, name, dict(arrays), results)
    path = folder / "eval" / f"{BINS}-{step:05d}.npz"
    if path.is_file():
      with np.load(path, allow_pickle=False) as arrays:
        reliable[f"reliability_{arm}"] = _reliability(name, dict(arrays))
  return [
    Gallery(
      "Where a pair's gradient comes from",
      "Norms of the winner's and of the loser's part of each loss's gradient "
      "with respect to the parameters, at the endpoint, on the pairs of the "
      "last batch, by how far a pair is won. Shaded: the paper's vulnerable "
      f"region. Seed {seed}.",
      parts,
    ),
    Gallery(
      "Does the policy know how often it is right?",
      "Top-1 probability against the share of tokens of the chosen captions "
      f"that are the argmax, at the endpoint; 15 equal bins. Seed {seed}.",
      reliable,
    ),
  ]


def _parts(arm, name, arrays, results: Results) -> dict[str, Picture]:
  stage = SimpleNamespace(**results.config["stage2"])
  out = {}
  for loss, cooled in (("DPO", False), ("CW-DPO", True)):
    found = margins.binned(arrays, stage, cooled=cooled)
    empty = np.asarray(found.count) == 0
    out[f"margins_{arm}_{'cw' if cooled else 'dpo'}"] = (
      dynamics.parts_by_margin(
        margins.EDGES,
        np.where(empty, np.nan, found.winner),
        np.where(empty, np.nan, found.loser),
        vulnerable=preference.VULNERABLE,
        title=f"{loss}'s gradient after {name}",
      )
    )
  return out


def _reliability(name: str, arrays: dict[str, np.ndarray]) -> Picture:
  count = arrays["count"]
  safe = np.where(count == 0, np.nan, count)
  return dynamics.reliability(
    arrays["confidence"] / safe,
    arrays["correct"] / safe,
    count / max(count.sum(), 1),
    title=name,
  )


def _beside(results: Results) -> Section:
  """Returns the table of the paper's Figure 4 and ours."""
  rows = []
  for metric, label, dpo, cooled in (
    ("total_variation", "total variation, %", "about 45", "about 15"),
    ("jensen_shannon", "Jensen-Shannon, nats", "about 0.30", "about 0.10"),
    ("top1", "top-1 probability, %", "often > 80", "50–60"),
  ):
    for loss, paper in (("dpo", dpo), ("cw_dpo", cooled)):
      for stage1 in ("sft", "sft_c"):
        arm = f"{stage1}_{loss}"
        ours = tables.level(results, results.endpoint(arm), SET, metric)
        rows.append((f"{label}: {NAMES[arm]}", paper, ours))
  caption = (
    "Paper: Qwen2.5-VL-72B, read off its Figure 4, CW-DPO after SFT-C and DPO "
    "after SFT. Here: the model and pictures under “How this was run”: "
    "directions and ratios compare, levels do not. 95 % intervals"
    f"{tables.over(results)}, each by itself."
  )
  table = report.table(("quantity", "paper", "here"), rows, caption=caption)
  return Section("The paper's Figure 4 beside ours", [table])


def _matched(results: Results) -> Section:
  """Returns drift where the arms' captions are equally good, not equally old.

  The level is what every arm reaches: the lowest of their best means.
  """
  along = {
    arm: {
      step: results.mean(Point(arm, "stage2", step), "validation", "exact")
      for step in results.steps(arm, "stage2", "validation")
    }
    for arm in results.arms
    if arm in ARMS
  }
  found = {arm: by for arm, by in along.items() if None not in by.values()}
  level = min((max(by.values()) for by in found.values()), default=0.0)
  rows = []
  for arm, by_step in found.items():
    step = min(step for step, mean in by_step.items() if mean >= level)
    at = Point(arm, "stage2", step)
    rows.append(
      (
        NAMES[arm],
        step,
        tables.level(results, at, "validation", "exact"),
        *(tables.level(results, at, SET, name) for name in _AT_LEVEL),
      )
    )
  table = report.table(
    ("arm", "first step there", "exact, %", "TV, %", "top-1, %", "Δ log p"),
    rows,
    caption=f"The first evaluation at which an arm's mean exact score is"
    f" {100 * level:.1f} % or more, the best that all arms reach; Δ log p of "
    "the chosen captions, nats.",
  )
  return Section("Drift at equally good captions", [table])


_AT_LEVEL = ("total_variation", "top1", "shift")


# Rows of the paper's Table 3: CIDEr, and the arm that is it here.
_TABLE3 = (
  ("full", "142.6", "sft_c_cw_dpo"),
  ("w/o Smooth SFT", "137.6", "base_cw_dpo"),
  ("w/o Negative Sampling (Stage 1 = SFT)", "138.9", "sft_cw_dpo"),
  ("w/o Soft Penalty (hard constraint)", "139.2", "hard"),
  ("w/o CW-DPO (Stage 1 only)", "140.7", ""),
  ("w/o Cooling Weight (constant)", "141.5", "constant"),
  ("full, extremely easy negatives left out", "–", "filtered"),
)


def _ablations(results: Results) -> Section:
  """Returns the paper's Table 3, and the sweeps."""
  entry = results.entry("sft_c_cw_dpo")

  def cells(policy: Policy):
    return (
      tables.level(results, policy, "validation", "exact"),
      tables.level(results, policy, "validation", "meaning"),
      tables.level(results, policy, SET, "total_variation"),
    )

  rows = [
    (name, cider, *cells(results.endpoint(arm) if arm else entry))
    for name, cider, arm in _TABLE3
  ]
  named = {arm for _, _, arm in _TABLE3}
  rows += [
    (of.name, "–", *cells(results.endpoint(arm)))
    for arm, of in ARMS.items()
    if arm not in named
  ]
  table = report.table(
    ("variant", "paper, CIDEr", "exact, %", "meaning, %", "TV, %"),
    rows,
    caption="The paper's Table 3 beside ours, then the other arms; what was "
    "not run is a dash.",
  )
  return Section("Ablations", [table])
