"""What the paper says of whole ladders: correlations, a check in two stages.

Everything is computed from evaluations and journals; runs are (arm, seed).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.rank_inversion.design import Arm, ladder
from jaxvlm.diagnostics import (
  bootstrap_interval,
  degenerate_probability,
  headroom,
  pass_at_k,
)
from jaxvlm.diagnostics.readiness import Advice, advise
from jaxvlm.study.design import Peak, Point
from jaxvlm.study.results import Results

# Ours: resamples of an interval; the paper's: thresholds of its check.
RESAMPLES = 1000
ENTROPY_THRESHOLD = 0.18  # nats
DROP_THRESHOLD = 0.5  # share of entropy that is lost between two steps
# The paper looks at steps 10 and 150 of 400.
EARLY, LATER = 10 / 400, 150 / 400


class Run(NamedTuple):
  """One run of the ladder, reduced to what the correlations ask for.

  Attributes:
    arm: which rung.
    seed: which run of it.
    predictors: name -> f64[P] before RL, or the same number for all problems.
    peak: f64[P] pass@10 at its peak.
    peak_step: the step of the peak.
  """

  arm: Arm
  seed: int
  predictors: Mapping[str, np.ndarray]
  peak: np.ndarray
  peak_step: int


class Correlation(NamedTuple):
  """Spearman's ρ of a predictor with the peak, seeds' means taken away.

  Attributes:
    rho: over all runs.
    low, high: 95 %, from resampled seeds and problems.
    runs: how many.
  """

  rho: float
  low: float
  high: float
  runs: int


def runs(results: Results, coder: str, group: int = 8) -> list[Run]:
  """Returns the runs of a coder's ladder that have come to their end.

  Args:
    results: of the study.
    coder: whose ladder.
    group: completions of a prompt, for the expected variance.
  """
  metric = results.measured_as("pass@10", "hard")
  top = results.measured_as("pass@64", "deep")
  out = []
  for arm in ladder(coder):
    peaks = results.peaks(Peak(arm.name, "grpo"), "hard", metric)
    entry = results.entry(arm.name)
    before = {
      name: results.by_seed(entry, where, of)
      for name, where, of in (
        ("pass@1", "hard", "accuracy"),
        ("entropy", "hard", "entropy"),
        (top, "deep", top),
      )
    }
    for seed, (step, values) in peaks.items():
      given = {k: of[seed] for k, of in before.items() if seed in of}
      if "pass@1" in given:
        p = given["pass@1"]
        given["expected variance"] = p * (1 - p) * (group - 1) / group
      early = _logged(results, arm, seed, EARLY)
      if early is not None:
        given["entropy early in RL"] = np.full_like(values, early)
      out.append(Run(arm, seed, given, values, step))
  return out


def _logged(results: Results, arm: Arm, seed: int, at: float) -> float | None:
  """Returns the rollouts' entropy at a share of the planned steps."""
  records = results.journals.get((arm.name, "grpo"), {}).get(seed, [])
  found = {
    r["step"]: r["policy/entropy"] for r in records if "policy/entropy" in r
  }
  wanted = max(1, round(at * results.last_step))
  return found.get(wanted)


def correlations(
  found: Sequence[Run], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Correlation]:
  """Returns predictor -> seed-demeaned Spearman correlation with the peak.

  ρ(x − x̄ of the seed, y − ȳ of the seed); its interval resamples seeds and
  problems together, so it speaks of other runs where there are several.
  """
  if len(found) < 3:
    return {}
  names = sorted(set.intersection(*(set(r.predictors) for r in found)))
  rng = np.random.default_rng(seed)
  seeds = sorted({run.seed for run in found})
  of = [[i for i, r in enumerate(found) if r.seed == s] for s in seeds]
  count = found[0].peak.size
  out = {}
  for name in names:
    x = np.stack([run.predictors[name] for run in found])
    y = np.stack([run.peak for run in found])
    draws = []
    for _ in range(resamples):
      rows = rng.integers(count, size=count)
      # A seed that is drawn twice counts as two runs.
      groups = [of[i] for i in rng.integers(len(of), size=len(of))]
      means = x[:, rows].mean(1), y[:, rows].mean(1)
      draws.append(_rho(*means, groups))
    interval = np.nanquantile(draws, (0.025, 0.975)).tolist()
    rho = _rho(x.mean(1), y.mean(1), of)
    out[name] = Correlation(rho, *interval, len(found))
  return out


def _rho(x: np.ndarray, y: np.ndarray, groups: Sequence[list[int]]) -> float:
  """Returns Spearman's ρ of what is left of x and y without groups' means."""
  ranks = [
    stats.rankdata(np.concatenate([of[g] - of[g].mean() for g in groups]))
    for of in (x, y)
  ]
  a, b = (r - r.mean() for r in ranks)
  scale = np.sqrt((a @ a) * (b @ b))
  return float(a @ b / scale) if scale else float("nan")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
  """What the check in two stages says of a run, and how the run ended.

  Attributes:
    name: of the arm, in words.
    seed: of the run.
    entropy: before RL, nats.
    drop: share of entropy lost between the two steps; None: not logged.
    failed: whether RL ended below its start in pass@10.
  """

  name: str
  seed: int
  entropy: float
  drop: float | None
  failed: bool

  @property
  def flagged(self) -> bool:
    """Whether either stage warns."""
    low = self.entropy < ENTROPY_THRESHOLD
    return low or (self.drop is not None and self.drop > DROP_THRESHOLD)


def diagnoses(results: Results, coder: str) -> list[Diagnosis]:
  """Returns the check of every run of a coder's ladder."""
  metric = results.measured_as("pass@10", "hard")
  out = []
  for arm in ladder(coder):
    entry, end = results.entry(arm.name), results.endpoint(arm.name)
    entropy = results.by_seed(entry, "hard", "entropy")
    before = results.by_seed(entry, "hard", metric)
    after = results.by_seed(end, "hard", metric)
    for seed in sorted(before.keys() & after.keys()):
      early, later = (_logged(results, arm, seed, at) for at in (EARLY, LATER))
      drop = None if not early or later is None else (early - later) / early
      out.append(
        Diagnosis(
          results.design.arms[arm.name],
          seed,
          float(entropy[seed].mean()),
          drop,
          bool(after[seed].mean() < before[seed].mean()),
        )
      )
  return out


def advice(
  results: Results, arm: Arm, group: int = 8
) -> tuple[Advice | None, tuple[str, ...]]:
  """Returns the verdict on RL from an arm's start, and its reasons.

  None where the start was not measured with as many samples as a group has.
  """
  entry = results.entry(arm.name)
  by_seed = results.by_seed(entry, "hard", "accuracy")
  n = results.config.get("evaluation", {}).get("samples", 0)
  if not by_seed or n < group:
    return None, ()
  # Samples of all seeds are samples of the same problems.
  right = [_ones(rates, n) for rates in by_seed.values()]
  entropy = results.values(entry, "hard", "entropy")
  groups = headroom(np.concatenate(right, axis=1), group)
  own = bootstrap_interval(entropy)
  return advise(groups, None, own, ENTROPY_THRESHOLD)


def _ones(rates: np.ndarray, n: int) -> np.ndarray:
  """Returns f64[P, n]: as many ones in a row as the rate says, then zeros."""
  return np.arange(n) < np.rint(n * rates)[:, None]


class Shares(NamedTuple):
  """Degenerate groups at one evaluation, predicted and counted.

  Attributes:
    step: of RL.
    of_mean: f_g of the mean pass@1, as if all problems had it.
    of_each: the mean of every problem's own share.
    logged: what the batch of that step had; None: not logged.
  """

  step: int
  of_mean: float
  of_each: float
  logged: float | None


def degenerate_shares(
  results: Results, arm: Arm, group: int = 8
) -> list[Shares]:
  """Returns predicted and logged shares along RL, means over seeds.

  f_g(p) = p^g + (1 − p)^g is convex, so a mean p understates the share where
  problems differ. A problem's own share is estimated without bias: that g of
  its n samples, drawn without replacement, are all right or all wrong. Batches
  are of the filtered training problems, evaluations of all problems.
  """
  n = results.config.get("evaluation", {}).get("samples", 0)
  out = []
  for step in results.steps(arm.name, "grpo", "hard") if n >= group else ():
    point = Point(arm.name, "grpo", step)
    by_seed = results.by_seed(point, "hard", "accuracy").values()
    right = np.rint(n * np.stack(list(by_seed))).astype(int)
    each = 2 - pass_at_k(n, right, group) - pass_at_k(n, n - right, group)
    logged = [
      record["reward/degenerate_groups"]
      for records in results.journals.get((arm.name, "grpo"), {}).values()
      for record in records
      if record["step"] == max(step, 1) and "reward/degenerate_groups" in record
    ]
    out.append(
      Shares(
        step,
        float(degenerate_probability((right / n).mean(), group)),
        float(each.mean()),
        float(np.mean(logged)) if logged else None,
      )
    )
  return out
