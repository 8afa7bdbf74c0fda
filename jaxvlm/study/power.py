"""How often each rule errs: studies simulated at a run's own sizes.

Every claim is put to its own rule on made-up scores, once with all policies
equal and once with the claimed effect. Problems differ in difficulty, policies
in what they find hard, and every run comes out a little different. The spreads
below are ours, near those of a laptop's study.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import special

from jaxvlm.diagnostics import Interval, crossed_intervals
from jaxvlm.study import results as results_lib
from jaxvlm.study.claims import Claim
from jaxvlm.study.design import Policy
from jaxvlm.study.results import Results
from jaxvlm.study.verdicts import Contrast, Verdict

# Standard deviations, in logits: of a problem's difficulty; of what a policy
# finds hard besides, in all its runs; of what one run finds hard besides.
DIFFICULTY, OF_POLICY, OF_RUN = 1.5, 0.5, 0.8
# The same of the logarithm of an entropy.
ENTROPY_SPREADS = (0.4, 0.25, 0.3)
# The same of a change of log-probability, in nats.
NATS_SPREADS = (2.0, 1.0, 1.0)
# Standard deviation of a policy between runs: points; share of its entropy;
# nats of a change of log-probability.
RUN_POINTS, RUN_SHARE, RUN_NATS = 3.0, 0.05, 0.5
# Tokens of an answer, where a share is a mean over them.
TOKENS = 16
# Means that the policies scatter around.
ACCURACY, PASS_AT_K, ENTROPY = 0.5, 0.8, 0.12


@dataclasses.dataclass(frozen=True)
class Rates:
  """Share of simulated studies that get each verdict.

  Attributes:
    claim: what was decided.
    equal: verdict -> share where all policies are equal.
    paper: verdict -> share under the claimed effect.
  """

  claim: Claim
  equal: Mapping[Verdict, float]
  paper: Mapping[Verdict, float]


def error_rates(
  results: Results,
  claims: Sequence[Claim],
  *,
  run_scatter: float = 1.0,
  studies: int = 200,
) -> list[Rates]:
  """Simulates every claim that has an effect, comparisons and problems.

  Args:
    results: gives the numbers of problems, samples and seeds.
    claims: to simulate.
    run_scatter: times `RUN_POINTS` and `RUN_SHARE`.
    studies: to simulate for each claim and truth.
  """
  out = []
  for claim in claims:
    problems = results.problems(claim.problem_set)
    if not (claim.effect and problems and claim.comparisons(results)):
      continue
    equal, paper = (
      _verdicts(claim, results, truth, problems, run_scatter, studies)
      for truth in ({}, claim.effect(results))
    )
    out.append(Rates(claim, equal, paper))
  return out


def _verdicts(
  claim: Claim,
  results: Results,
  truth: Mapping[Policy, float],
  problems: int,
  run_scatter: float,
  studies: int,
) -> dict[Verdict, float]:
  comparisons = claim.comparisons(results)
  policies = list(dict.fromkeys(p for c in comparisons for p in (c.a, c.b)))
  place = {policy: i for i, policy in enumerate(policies)}
  # The same policy in all runs.
  fixed = (*results.design.references, results.untrained)
  draw = _entropies
  if results_lib.is_share(claim.metric):
    draw = _rates
  elif results_lib.is_signed(claim.metric):
    draw = _changes
  intervals, levels = _simulate(
    draw,
    _trials(claim.metric, results),
    PASS_AT_K if claim.metric.startswith("pass@") else ACCURACY,
    tuple(truth.get(policy, 0.0) for policy in policies),
    tuple(0.0 if p in fixed else run_scatter for p in policies),
    tuple((place[c.a], place[c.b]) for c in comparisons),
    (studies, problems, len(results.seeds)),
  )
  count = dict.fromkeys(Verdict, 0)
  for study in range(studies):
    judged = []
    for i, c in enumerate(comparisons):
      interval = Interval(*intervals[:, study, i].tolist())
      of = c.relative_to
      level = float(levels[study, place[of]]) if of else 0.0
      verdict = c.verdict(interval, level)
      judged.append(Contrast(c.label, "", interval, {}, verdict))
    count[claim.decide(judged)] += 1
  return {verdict: n / studies for verdict, n in count.items()}


def _trials(metric: str, results: Results) -> int:
  """Returns how many trials a problem's share is the mean of."""
  if metric.startswith("pass@"):
    return 1
  if metric in results_lib.OVER_TOKENS:
    return TOKENS
  samples = results.config.get("evaluation", {}).get("samples")
  return samples or results.top_k


@functools.cache
def _simulate(
  draw: Callable[..., np.ndarray],
  samples: int,
  mean: float,
  offsets: tuple[float, ...],
  runs: tuple[float, ...],
  pairs: tuple[tuple[int, int], ...],
  sizes: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
  """Returns intervals f[3, studies, pairs] and means f[studies, policies].

  Args:
    draw: `_rates`, in points, or `_entropies` or `_changes`, in nats.
    samples: answers that are counted for a rate.
    mean: of the rates.
    offsets: of each policy from the mean.
    runs: scatter of each policy between runs, times the module's.
    pairs: places of the policies that are compared.
    sizes: studies, problems, runs of a study.
  """
  rng = np.random.default_rng(0)
  drawn = draw(samples, mean, rng, np.array(offsets), np.array(runs), sizes)
  a, b = np.array(pairs).T
  # Scores and bounds in the unit of the judges.
  share = draw is _rates
  unit, bounds = (100.0, (-100.0, 100.0)) if share else (1.0, None)
  found = crossed_intervals(
    unit * (drawn[:, a] - drawn[:, b]), bounds=bounds, draws=500
  )
  return np.stack(found), unit * drawn.mean((-2, -1))


def _spread(rng, sizes, policies: int, of_problem, of_policy, of_run):
  """Normal effects f32[studies, policies, problems, runs]."""
  studies, problems, runs = sizes

  def normal(*shape):
    return rng.standard_normal(shape, np.float32)

  out = of_run * normal(studies, policies, problems, runs)
  out += of_policy * normal(studies, policies, problems, 1)
  out += of_problem * normal(studies, 1, problems, 1)
  return out, normal(studies, policies, 1, runs)


def _entropies(samples, mean, rng, offsets, runs, sizes):
  effects, run = _spread(rng, sizes, len(offsets), *ENTROPY_SPREADS)
  effects += RUN_SHARE * runs[:, None, None] * run
  variance = sum(np.square(ENTROPY_SPREADS))
  scale = ENTROPY * (1 + offsets)[:, None, None]
  return scale * np.exp(effects - variance / 2)


def _changes(samples, mean, rng, offsets, runs, sizes):
  effects, run = _spread(rng, sizes, len(offsets), *NATS_SPREADS)
  effects += RUN_NATS * runs[:, None, None] * run
  return offsets[:, None, None] + effects


def _rates(samples, mean, rng, offsets, runs, sizes):
  effects, run = _spread(
    rng, sizes, len(offsets), DIFFICULTY, OF_POLICY, OF_RUN
  )
  # The logit at the middle whose average over problems is the wanted rate.
  grid = np.linspace(-8, 8, 321)
  nodes, weights = np.polynomial.hermite_e.hermegauss(40)
  spread = np.sqrt(DIFFICULTY**2 + OF_POLICY**2 + OF_RUN**2)
  average = special.expit(grid[:, None] + spread * nodes) @ weights
  average /= weights.sum()
  shift = RUN_POINTS / 100 * runs[:, None, None] * run
  rate = np.clip(mean + offsets[:, None, None] / 100 + shift, 0.02, 0.98)
  logit = np.interp(rate, average, grid) + effects
  right = rng.binomial(samples, special.expit(logit))
  return right / samples
