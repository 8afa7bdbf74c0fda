"""Does the trainer see the policy that sampled? Two figures and an alarm.

Sampler and trainer compute the same log-probabilities by two programs. In one
precision they agree to rounding; more than that means that the samples came
from something else than what is trained: older weights, another temperature,
another precision. Training goes on, and quietly gets worse, so it is said.
"""

import collections
import dataclasses
import logging
import math
import statistics
from collections.abc import Iterable, Mapping

import jax.numpy as jnp
from jax import Array

from jaxvlm import metrics as metrics_lib
from jaxvlm.losses.parts import MAX_LOG_RATIO
from jaxvlm.metrics import Metric

GAP, KL, ALARM = "rollout/logprob_gap", "rollout/logprob_kl", "rollout/alarm"


def figures(
  logprobs: Array, old_logprobs: Array, mask: Array
) -> dict[str, Metric]:
  """Returns how far the trainer's log-probabilities are from the sampler's.

  gap = max_t |d_t|,  kl = mean_t exp d_t − 1 − d_t,  d_t = log π_θ/π_old

  The mean is k3, an unbiased and never negative estimate of KL(π_old‖π_θ) from
  samples of π_old (Schulman 2020, "Approximating KL divergence").

  Args:
    logprobs: f32[…] of the sampled tokens by the trainer.
    old_logprobs: f32[…] of the same tokens by the sampler.
    mask: bool[…] the tokens that count.
  """
  apart = jnp.where(mask, logprobs - old_logprobs, 0.0).astype(jnp.float32)
  # expm1 keeps the digits that exp(d) − 1 − d would cancel.
  k3 = jnp.expm1(jnp.minimum(apart, MAX_LOG_RATIO)) - apart
  return {
    GAP: metrics_lib.masked_max(jnp.abs(apart), mask),
    KL: metrics_lib.masked_mean(jnp.maximum(k3, 0.0), mask),
  }


@dataclasses.dataclass(frozen=True)
class Bounds:
  """What is still rounding.

  Attributes:
    gap: largest difference of log-probabilities, nats.
    kl: largest mean divergence, nats.
    growth: largest ratio of either figure to its own median over the last
      quiet steps; what float32 would round counts as no growth.
    window: quiet steps remembered.
    minimum: quiet steps needed before growth counts.
  """

  gap: float = math.inf
  kl: float = math.inf
  growth: float = math.inf
  window: int = 64
  minimum: int = 8


# float32 in both programs: rounding stays a decade below.
FLOAT32 = Bounds(gap=1e-4, kl=1e-6)
# bfloat16, or float32 whose products run in bfloat16: how much rounding there
# is depends on model and depth, so a run is compared with itself. The limits
# are ours.
LOW_PRECISION = Bounds(kl=1e-2, growth=5.0)


class Alarm:
  """Watches the two figures of a run and warns when they are not rounding.

  What it decides is a function of the run's records alone, so a run that is
  resumed goes on as if nothing had happened.

  Args:
    bounds: what is still rounding.
    records: what the journal of the run already holds, oldest first.
  """

  def __init__(
    self, bounds: Bounds, records: Iterable[Mapping[str, float]] = ()
  ):
    self._bounds = bounds
    self._quiet = collections.deque(maxlen=bounds.window)
    self._ringing = False
    for record in records:
      if ALARM in record:
        self._remember(record, bool(record[ALARM]))

  def check(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns `rollout/alarm` (0 or 1) to log, and warns when it starts.

    Args:
      step: named in the warning.
      metrics: of the step; without the figures there is nothing to check.
    """
    if GAP not in metrics:
      return {}
    found = self._excess(metrics)
    if found and not self._ringing:
      logging.warning(
        "step %d: %s: the sampler's log-probabilities are not those of the"
        " policy under training. Likely causes: the sampler runs older weights,"
        " it divides by another temperature, or its parameters or activations"
        " have another dtype. Until it is mended, gradients are off-policy",
        step,
        "; ".join(found),
      )
    self._remember(metrics, bool(found))
    return {ALARM: float(bool(found))}

  def _remember(self, metrics: Mapping[str, float], ringing: bool) -> None:
    self._ringing = ringing
    if not ringing:  # a median of alarms would get used to them
      self._quiet.append((metrics[GAP], metrics[KL]))

  def _excess(self, metrics: Mapping[str, float]) -> list[str]:
    b = self._bounds
    found = []
    limits = (GAP, b.gap, FLOAT32.gap), (KL, b.kl, FLOAT32.kl)
    for i, (name, limit, rounding) in enumerate(limits):
      value = metrics[name]
      if not value <= limit:  # asked this way round, NaN is an excess
        found.append(f"{name} is {value:.3g}, expected at most {limit:.3g}")
      elif len(self._quiet) >= b.minimum:
        usual = statistics.median(past[i] for past in self._quiet)
        if value > max(b.growth * usual, rounding):
          found.append(
            f"{name} is {value:.3g}, expected at most {b.growth:g} times"
            f" {usual:.3g}, its median over {len(self._quiet)} steps"
          )
    return found
