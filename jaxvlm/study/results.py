"""What was measured: scores per problem, differences, their intervals.

All seeds see the same problems; intervals speak of other problems and, from
two seeds on, of other runs. `read.load` fills a `Results` from a study's
folder; whoever trains nothing makes one of arrays.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxvlm.diagnostics import (
  Interval,
  Intervals,
  bootstrap_interval,
  crossed_intervals,
)
from jaxvlm.study.design import Design, Peak, Point, Policy, Span

KS = (1, 2, 4, 8, 10, 16, 64)
_SHARES = (
  "accuracy",
  "format",
  "exact",
  "meaning",
  "objects",
  "attributes",
  "relations",
)
# Shares that are means over the tokens of an answer.
OVER_TOKENS = ("top1", "overconfidence", "total_variation")
# Beginnings of the names of what is measured in nats, and may be negative.
_SIGNED = ("logprob", "shift")
_NATS = (*_SIGNED, "entropy", "jensen_shannon")

# metric -> f64[P], one value per problem
Scores = Mapping[str, np.ndarray]


class Unit(NamedTuple):
  """How numbers of a metric are written.

  Attributes:
    name: of differences.
    scale: what numbers are multiplied by.
    digits: after the point.
  """

  name: str
  scale: float
  digits: int


def is_share(metric: str) -> bool:
  """Returns whether a score lies between 0 and 1, or -1 and 1."""
  return metric in (*_SHARES, *OVER_TOKENS) or metric.startswith("pass@")


def is_signed(metric: str) -> bool:
  """Returns whether a score is in nats of either sign."""
  return metric.startswith(_SIGNED)


def unit(metric: str) -> Unit:
  """Returns points for shares, nats for what is a logarithm, else nothing."""
  if is_share(metric):
    return Unit("points", 100.0, 1)
  return Unit("nats" if metric.startswith(_NATS) else "", 1.0, 3)


class Moment(NamedTuple):
  """A policy that tables have a row for.

  Attributes:
    name: of the arm, or of what is measured beside the arms.
    moment: "entry" or "endpoint" of the last stage; "" beside the arms.
    policy: which it is.
  """

  name: str
  moment: str
  policy: Policy


@dataclasses.dataclass(frozen=True)
class Difference:
  """Mean of a − b over problems and seeds, its interval, each seed's mean."""

  interval: Interval
  per_seed: Mapping[int, float]


@dataclasses.dataclass(frozen=True)
class Results:
  """All measurements of a study.

  Attributes:
    design: what is compared.
    seeds: runs, ascending.
    scores: problem set -> point -> seed -> scores.
    config: resolved settings; empty if not recorded.
    journals: (arm, stage) -> seed -> records of metrics.jsonl.
    samples: arm -> problems with colored completions, of the first seed that
      has some.
    gaps: what is missing or damaged, in words.
  """

  design: Design
  seeds: tuple[int, ...]
  scores: Mapping[str, Mapping[Point, Mapping[int, Scores]]]
  config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  journals: Mapping[tuple[str, str], Mapping[int, list[dict[str, Any]]]] = (
    dataclasses.field(default_factory=dict)
  )
  samples: Mapping[str, list[dict[str, Any]]] = dataclasses.field(
    default_factory=dict
  )
  gaps: tuple[str, ...] = ()
  _intervals: dict = dataclasses.field(default_factory=dict, repr=False)

  @property
  def arms(self) -> tuple[str, ...]:
    """Arms with any evaluation or journal."""
    found = {point.arm for of in self.scores.values() for point in of}
    found |= {arm for arm, _ in self.journals}
    return tuple(arm for arm in self.design.arms if arm in found)

  def points(self, problem_set: str) -> Mapping[Point, Mapping[int, Scores]]:
    """Returns what was measured on a problem set."""
    return self.scores.get(problem_set, {})

  def steps(self, arm: str, stage: str, problem_set: str) -> list[int]:
    """Returns the evaluated steps of an arm in a stage, ascending."""
    return sorted(
      point.step
      for point in self.points(problem_set)
      if (point.arm, point.stage) == (arm, stage)
    )

  @property
  def untrained(self) -> Point | None:
    """The policy that no stage has trained; None where the design has none."""
    candidates = self.design.untrained
    measured = self.points(self.design.main_set)
    found = (p for p in candidates if p in measured)
    return next(found, candidates[0] if candidates else None)

  def entry(self, arm: str) -> Point:
    """Returns the policy that enters the last stage."""
    return Point(arm, self.design.last, 0)

  def endpoint(self, arm: str) -> Span:
    """Returns the policy at the end of the last stage.

    It ends at the planned last step, or at the last that any arm was evaluated
    at where no plan is recorded. An arm that has not got there has no endpoint
    yet, rather than an earlier one.
    """
    return Span(arm, self.design.last, self.endpoint_steps)

  @property
  def moments(self) -> list[Moment]:
    """Entry and endpoint of every arm, then what stands beside the arms."""
    design = self.design
    ends = [("entry", self.entry), ("endpoint", self.endpoint)]
    if not design.last:
      ends = [("", Point)]
    out = [
      Moment(name, moment, of(arm))
      for arm, name in design.arms.items()
      if arm not in design.without_last
      for moment, of in ends
    ]
    beside = design.references.items()
    return out + [Moment(name, "", point) for point, name in beside]

  @property
  def endpoint_steps(self) -> tuple[int, ...]:
    """The last evaluations of all, as many as the settings ask for.

    Fewer where the stage was evaluated less often; never its first policy.
    """
    wanted = self.config.get("evaluation", {}).get("endpoint_evaluations", 1)
    last = self.last_step
    steps = {
      point.step
      for points in self.scores.values()
      for point in points
      if point.stage == self.design.last and 0 < point.step <= last
    }
    return tuple(sorted(steps | {last}))[-wanted:]

  @property
  def last_step(self) -> int:
    """The step of the endpoint; −1 before any arm has come so far."""
    if planned := self.config.get(self.design.last, {}).get("steps"):
      return planned
    measured = self.points(self.design.main_set)
    steps = [p.step for p in measured if p.stage == self.design.last]
    return max(steps, default=0) or -1

  def problems(self, problem_set: str) -> int:
    """Returns how many problems a set has; 0 where nothing was measured."""
    for by_seed in self.points(problem_set).values():
      for scores in by_seed.values():
        return next(iter(scores.values())).size
    return 0

  @property
  def smoke_test(self) -> bool:
    """Whether so few steps were planned that they can carry no verdict."""
    return 0 < self.last_step < self.design.enough_steps

  def tempered(self, stage: str) -> str:
    """Returns the temperature that a stage's statistics are at, for a label.

    Args:
      stage: a section of the settings, such as "grpo" or "evaluation".
    """
    temperature = self.config.get(stage, {}).get("temperature", 1.0)
    # Greedy samples have their statistics at 1 (`sampling.logits`).
    return f"T = {temperature:g}" if temperature else "greedy, T = 1"

  @property
  def top_k(self) -> int:
    """The largest k of pass@k that every evaluation has samples for."""
    return self._top_k(tuple(self.scores))

  def _top_k(self, problem_sets: Sequence[str]) -> int:
    return max(
      (
        k
        for k in KS
        if all(
          f"pass@{k}" in scores
          for by_point in map(self.points, problem_sets)
          for by_seed in by_point.values()
          for scores in by_seed.values()
        )
      ),
      default=1,
    )

  def measured_as(self, metric: str, problem_set: str) -> str:
    """Returns pass@k with the largest k up to its own that was measured."""
    if not metric.startswith("pass@"):
      return metric
    asked = int(metric.removeprefix("pass@"))
    return f"pass@{min(asked, self._top_k([problem_set]))}"

  def by_seed(
    self, policy: Policy, problem_set: str, metric: str
  ) -> dict[int, np.ndarray]:
    """Returns seed -> f64[P], of the seeds that have the whole policy."""
    if isinstance(policy, Peak):
      return {
        seed: values
        for seed, (_, values) in self.peaks(policy, problem_set, metric).items()
      }
    points = [policy]
    if isinstance(policy, Span):
      points = [Point(policy.arm, policy.stage, s) for s in policy.steps]
    measured = self.points(problem_set)
    parts = [measured.get(point, {}) for point in points]
    return {
      seed: np.mean([part[seed][metric] for part in parts], axis=0)
      for seed in parts[0]
      if all(metric in part.get(seed, {}) for part in parts)
    }

  def peaks(
    self, peak: Peak, problem_set: str, metric: str
  ) -> dict[int, tuple[int, np.ndarray]]:
    """Returns seed -> (step, f64[P]) of the best evaluation after step 0."""
    found: dict[int, tuple[int, np.ndarray]] = {}
    for step in self.steps(peak.arm, peak.stage, problem_set):
      point = Point(peak.arm, peak.stage, step)
      values = self.by_seed(point, problem_set, metric) if step else {}
      for seed, of in values.items():
        if seed not in found or of.mean() > found[seed][1].mean():
          found[seed] = (step, of)
    return found

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

  def logged_mean(self, arm: str, stage: str, key: str) -> float | None:
    """Returns a journal key's mean over steps and seeds, or None."""
    values = [
      record[key]
      for records in self.journals.get((arm, stage), {}).values()
      for record in records
      if np.isfinite(record.get(key, np.nan))
    ]
    return float(np.mean(values)) if values else None

  def interval(
    self, policy: Policy, problem_set: str, metric: str
  ) -> Interval | None:
    """Returns a mean over problems and seeds with its interval, or None.

    Over problems and runs where there are several (`crossed_intervals`); over
    problems alone for one seed, and for what no run has trained: the untrained
    policy and what stands beside the arms.
    """
    key = (policy, problem_set, metric)
    if key not in self._intervals:
      by_seed = self.by_seed(*key)
      fixed = (*self.design.references, self.untrained)
      bounds = (0.0, 1.0) if is_share(metric) else None
      if len(by_seed) > 1 and policy not in fixed:
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
      bounds = (0.0, 1.0) if is_share(metric) else None
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
    bounds = (-1.0, 1.0) if is_share(metric) else None
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
