"""What a run of the study left on disk, reduced to scores per problem.

Every evaluation shrinks to a few numbers a problem when it is read, so that a
report over many seeds stays small. All seeds see the same problems; intervals
speak of other problems and, from two seeds on, of other runs.
"""

import dataclasses
import json
import pathlib
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxvlm import journal
from jaxvlm.diagnostics import (
  Interval,
  Intervals,
  bootstrap_interval,
  crossed_intervals,
)
from jaxvlm.eval.harness import Evaluation

WARM_STARTS = ("opd", "sft_early", "sft_over")
ARMS = (*WARM_STARTS, "base")
NAMES = {
  "opd": "OPD",
  "sft_early": "early SFT",
  "sft_over": "over-trained SFT",
  "base": "base",
}
STAGES = ("stage1", "grpo")
PROBLEM_SETS = ("in_domain", "out_of_domain")
KS = (1, 2, 4, 8, 16)
# Ours: half of what the laptop's study takes. Ten steps show that everything
# runs, not where RL leads.
ENOUGH_RL_STEPS = 30

_EVALUATION = re.compile(r"(?P<set>[a-z_]+)-(?P<step>\d{5,})\.npz")


class Point(NamedTuple):
  """One policy of the study: `step` steps into a stage of an arm."""

  arm: str
  stage: str
  step: int


class Span(NamedTuple):
  """One policy, measured more than once: the mean over several steps.

  Late in a stage an accuracy swings by more than its interval from one
  evaluation to the next; the mean over the last few swings less.
  """

  arm: str
  stage: str
  steps: tuple[int, ...]


Policy = Point | Span

TEACHER = Point("teacher", "", 0)

# metric -> f64[P], one value per problem
Scores = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Difference:
  """Mean of a − b over problems and seeds, its interval, each seed's mean."""

  interval: Interval
  per_seed: Mapping[int, float]


@dataclasses.dataclass(frozen=True)
class Results:
  """All measurements of a run.

  Attributes:
    config: resolved settings; empty if not recorded.
    seeds: those with a folder, ascending.
    scores: problem set -> point -> seed -> scores.
    journals: (arm, stage) -> seed -> records of metrics.jsonl.
    samples: arm -> problems with colored completions, of the first seed that
      has some.
    gaps: what is missing or damaged, in words.
  """

  config: Mapping[str, Any]
  seeds: tuple[int, ...]
  scores: Mapping[str, Mapping[Point, Mapping[int, Scores]]]
  journals: Mapping[tuple[str, str], Mapping[int, list[dict[str, Any]]]]
  samples: Mapping[str, list[dict[str, Any]]]
  gaps: tuple[str, ...]
  _intervals: dict = dataclasses.field(default_factory=dict, repr=False)

  @property
  def arms(self) -> tuple[str, ...]:
    """Arms with any evaluation or journal."""
    found = {point.arm for of in self.scores.values() for point in of}
    found |= {arm for arm, _ in self.journals}
    return tuple(arm for arm in ARMS if arm in found)

  def steps(self, arm: str, stage: str, problem_set: str) -> list[int]:
    """Returns the evaluated steps of an arm in a stage, ascending."""
    return sorted(
      point.step
      for point in self.scores[problem_set]
      if (point.arm, point.stage) == (arm, stage)
    )

  @property
  def untrained(self) -> Point:
    """The base model: before its RL, or before any arm's Stage 1."""
    candidates = [
      self.entry("base"),
      *(Point(arm, "stage1", 0) for arm in WARM_STARTS),
    ]
    measured = self.scores["in_domain"]
    return next((p for p in candidates if p in measured), candidates[0])

  def entry(self, arm: str) -> Point:
    """Returns the policy that enters RL."""
    return Point(arm, "grpo", 0)

  def endpoint(self, arm: str) -> Span:
    """Returns the policy at the RL endpoint.

    The endpoint ends at the planned last step, or at the last that any arm was
    evaluated at where no plan is recorded. An arm that has not got there has
    no endpoint yet, rather than an earlier one.
    """
    return Span(arm, "grpo", self.endpoint_steps)

  @property
  def endpoint_steps(self) -> tuple[int, ...]:
    """The last evaluations of RL, as many as the settings ask for.

    Fewer where RL was evaluated less often; never the policy that enters RL.
    """
    wanted = self.config.get("evaluation", {}).get("endpoint_evaluations", 1)
    last = self.last_rl_step
    steps = {
      point.step
      for points in self.scores.values()
      for point in points
      if point.stage == "grpo" and 0 < point.step <= last
    }
    return tuple(sorted(steps | {last}))[-wanted:]

  @property
  def last_rl_step(self) -> int:
    """The step of the RL endpoint; −1 before any arm has taken an RL step."""
    if planned := self.config.get("grpo", {}).get("steps"):
      return planned
    steps = [
      point.step for point in self.scores["in_domain"] if point.stage == "grpo"
    ]
    return max(steps, default=0) or -1

  def problems(self, problem_set: str) -> int:
    """Returns how many problems a set has; 0 where nothing was measured."""
    for by_seed in self.scores[problem_set].values():
      for scores in by_seed.values():
        return scores["accuracy"].size
    return 0

  @property
  def smoke_test(self) -> bool:
    """Whether so few RL steps were planned that they can carry no verdict."""
    return 0 < self.last_rl_step < ENOUGH_RL_STEPS

  def temperature(self, stage: str) -> float:
    """Returns the sampling temperature that the settings give a stage.

    Args:
      stage: a section of the settings, such as "grpo" or "evaluation".
    """
    return self.config.get(stage, {}).get("temperature", 1.0)

  @property
  def top_k(self) -> int:
    """The largest k of pass@k that every evaluation has samples for."""
    return max(
      k
      for k in KS
      if all(
        f"pass@{k}" in scores
        for by_point in self.scores.values()
        for by_seed in by_point.values()
        for scores in by_seed.values()
      )
    )

  def by_seed(
    self, policy: Policy, problem_set: str, metric: str
  ) -> dict[int, np.ndarray]:
    """Returns seed -> f64[P], of the seeds that have the whole policy."""
    points = [policy]
    if isinstance(policy, Span):
      points = [Point(policy.arm, policy.stage, s) for s in policy.steps]
    parts = [self.scores[problem_set].get(point, {}) for point in points]
    return {
      seed: np.mean([part[seed][metric] for part in parts], axis=0)
      for seed in parts[0]
      if all(seed in part for part in parts)
    }

  def values(
    self, policy: Policy, problem_set: str, metric: str
  ) -> np.ndarray | None:
    """Returns f64[P], averaged over the seeds that have the policy, or None."""
    by_seed = self.by_seed(policy, problem_set, metric)
    return np.mean(list(by_seed.values()), axis=0) if by_seed else None

  def mean(self, policy: Policy, problem_set: str, metric: str) -> float | None:
    """Returns the mean over problems and seeds, or None."""
    values = self.values(policy, problem_set, metric)
    return None if values is None else float(values.mean())

  def interval(
    self, policy: Policy, problem_set: str, metric: str
  ) -> Interval | None:
    """Returns a mean over problems and seeds with its interval, or None.

    Over problems and runs where there are several (`crossed_intervals`); over
    problems alone for one seed, and for teacher and base, which are the same
    policy in every run.
    """
    key = (policy, problem_set, metric)
    if key not in self._intervals:
      by_seed = self.by_seed(*key)
      bounds = (0.0, 1.0) if _is_share(metric) else None
      if len(by_seed) > 1 and policy not in (TEACHER, self.untrained):
        scores = np.stack(list(by_seed.values()), axis=-1)[None]
        found = _each(crossed_intervals(scores, bounds=bounds))[0]
      else:
        values = self.values(*key)
        found = (
          None if values is None else bootstrap_interval(values, bounds=bounds)
        )
      self._intervals[key] = found
    return self._intervals[key]

  def band(
    self, policy: Policy, problem_set: str, metric: str
  ) -> Interval | None:
    """Returns a mean with its bootstrap interval over problems alone, or None.

    For figures: fewer resamples than for a number that is read off.
    """
    key = (policy, problem_set, metric, "band")
    if key not in self._intervals:
      values = self.values(policy, problem_set, metric)
      bounds = (0.0, 1.0) if _is_share(metric) else None
      self._intervals[key] = (
        None
        if values is None
        else bootstrap_interval(values, bounds=bounds, replicates=1000)
      )
    return self._intervals[key]

  def per_seed(
    self, policy: Policy, problem_set: str, metric: str
  ) -> dict[int, float]:
    """Returns seed -> mean over problems."""
    by_seed = self.by_seed(policy, problem_set, metric)
    return {seed: float(values.mean()) for seed, values in by_seed.items()}

  def differences(
    self,
    pairs: Sequence[tuple[Policy, Policy]],
    problem_set: str,
    metric: str,
  ) -> list[Difference | None]:
    """Returns a − b of every pair; the intervals hold for all of them at once.

    A pair that was not measured has None. Only seeds that have all the others
    count, so that the differences can be taken together.
    """
    key = (tuple(pairs), problem_set, metric)
    if key not in self._intervals:
      self._intervals[key] = self._differences(*key)
    return self._intervals[key]

  def _differences(self, pairs, problem_set, metric):
    both = [
      [self.by_seed(policy, problem_set, metric) for policy in pair]
      for pair in pairs
    ]
    measured = [i for i, (a, b) in enumerate(both) if a.keys() & b.keys()]
    out: list[Difference | None] = [None] * len(pairs)
    seeds = [
      seed
      for seed in self.seeds
      if all(seed in of for i in measured for of in both[i])
    ]
    if not measured or not seeds:
      return out
    scores = np.stack(
      [
        np.stack([both[i][0][s] - both[i][1][s] for s in seeds], axis=-1)
        for i in measured
      ]
    )
    bounds = (-1.0, 1.0) if _is_share(metric) else None
    intervals = _each(crossed_intervals(scores, bounds=bounds))
    for i, of, interval in zip(measured, scores, intervals, strict=True):
      means = of.mean(axis=0).tolist()
      out[i] = Difference(interval, dict(zip(seeds, means, strict=True)))
    return out

  def difference(
    self, a: Policy, b: Policy, problem_set: str, metric: str
  ) -> Difference | None:
    """Returns a − b over seeds that have both, or None."""
    return self.differences([(a, b)], problem_set, metric)[0]


def _each(intervals: Intervals) -> list[Interval]:
  return [Interval(*map(float, i)) for i in zip(*intervals, strict=True)]


def _is_share(metric: str) -> bool:
  """Whether a score lies between 0 and 1."""
  return metric in ("accuracy", "format") or metric.startswith("pass@")


def load(workdir: pathlib.Path) -> Results:
  """Reads a study's folder; what is unfinished is named, not fatal.

  Raises:
    ValueError: the folder holds no evaluation, or seeds differ in problems.
  """
  folders = sorted(
    (int(match.group(1)), path)
    for path in workdir.glob("seed-*")
    if (match := re.fullmatch(r"seed-(\d+)", path.name))
  )
  scores: dict = {name: {} for name in PROBLEM_SETS}
  journals: dict = {}
  samples: dict = {}
  gaps: list[str] = []
  for seed, folder in folders:
    _load_points(folder / "teacher" / "eval", TEACHER, seed, scores, gaps)
    for arm in ARMS:
      for stage in STAGES:
        where = folder / arm / stage
        start = Point(arm, stage, 0)
        _load_points(where / "eval", start, seed, scores, gaps)
        if records := journal.read(where / "metrics.jsonl"):
          journals.setdefault((arm, stage), {})[seed] = records
      path = folder / arm / "grpo" / "samples.json"
      if arm not in samples and path.exists():
        samples[arm] = json.loads(path.read_text(encoding="utf-8"))
  if not any(scores.values()):
    raise ValueError(
      f"workdir: found no seed-<s>/<arm>/<stage>/eval/<set>-<step>.npz in "
      f"{workdir}, expected at least one evaluation; run the study first: "
      "python -m experiments.stage1_entropy.run --workdir=…"
    )
  config = workdir / "config.json"
  results = Results(
    config=json.loads(config.read_text("utf-8")) if config.exists() else {},
    seeds=tuple(seed for seed, _ in folders),
    scores=scores,
    journals=journals,
    samples=samples,
    gaps=(),
  )
  return dataclasses.replace(results, gaps=(*gaps, *_unfinished(results)))


def _load_points(
  folder: pathlib.Path,
  start: Point,
  seed: int,
  scores: dict,
  gaps: list[str],
) -> None:
  """Adds the evaluations of one folder to `scores`."""
  for path in sorted(folder.glob("*.npz")):
    match = _EVALUATION.fullmatch(path.name)
    if not match or match["set"] not in scores:
      continue
    try:
      with np.load(path, allow_pickle=False) as arrays:
        evaluation = Evaluation.from_arrays(dict(arrays))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
      name = "/".join(path.parts[-5:])
      gaps.append(f"{name} cannot be read ({error}) and is left out.")
      continue
    found = _scores(evaluation)
    point = start._replace(step=int(match["step"]))
    by_seed = scores[match["set"]].setdefault(point, {})
    for other in by_seed.values():
      _require_same_problems(path, found, other)
    by_seed[seed] = found


def _require_same_problems(path, found: Scores, other: Scores) -> None:
  count, expected = (len(scores["accuracy"]) for scores in (found, other))
  if count != expected:
    raise ValueError(
      f"{path}: got {count} problems, expected {expected} as in another seed; "
      "seeds are pooled problem by problem, so evaluate all on the same set"
    )


def _scores(evaluation: Evaluation) -> Scores:
  """Returns one number a problem for every metric."""
  n = evaluation.accuracy.shape[1]
  return {
    "accuracy": evaluation.accuracy.mean(1, dtype=np.float64),
    **{f"pass@{k}": evaluation.pass_at(k) for k in KS if k <= n},
    "entropy": np.asarray(evaluation.entropy(), np.float64),
    "length": evaluation.lengths.mean(1, dtype=np.float64),
    "format": evaluation.scores["format"].mean(1, dtype=np.float64),
    "distinct_answers": evaluation.distinct_answers(),
  }


def _bounds(metric: str) -> tuple[float, float] | None:
  """Returns the least and largest value of a rate; None for what is none."""
  rate = metric in ("accuracy", "format") or metric.startswith("pass@")
  return (0.0, 1.0) if rate else None


def _unfinished(results: Results) -> list[str]:
  """Says which arms, seeds and stages have no final evaluation."""
  lines = [f"Arm {arm} was not run." for arm in ARMS if arm not in results.arms]
  last = results.last_rl_step
  if last < 0:
    lines.append("No arm has taken an RL step yet: there is no endpoint.")
  measured = [name for name in PROBLEM_SETS if results.scores[name]]
  lines += [
    f"Nothing was evaluated on {name}."
    for name in PROBLEM_SETS
    if name not in measured
  ]
  for arm in results.arms:
    for name, step in (
      ("RL entry", 0),
      *(("RL endpoint", step) for step in results.endpoint_steps if step > 0),
    ):
      point = Point(arm, "grpo", step)
      lack = [
        str(seed)
        for seed in results.seeds
        if any(seed not in results.scores[s].get(point, {}) for s in measured)
      ]
      if lack:
        lines.append(
          f"Arm {arm} has no evaluation at the {name} (step {step}) for "
          f"seed {', '.join(lack)}."
        )
  if not any(TEACHER in points for points in results.scores.values()):
    lines.append("The teacher was not evaluated.")
  return lines
