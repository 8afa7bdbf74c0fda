"""AdamW with warm-up, clipping, and decay on matrices only."""

import dataclasses
from typing import Any

import jax
import optax


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """Settings of the optimizer; steps are optimizer steps.

  Attributes:
    peak_lr: learning rate after warm-up.
    warmup_steps: linear warm-up, from peak_lr / warmup_steps.
    decay_steps: cosine decay to `end_lr` over so many steps after warm-up; 0
      keeps the rate constant.
    end_lr: learning rate at the end of the decay.
    b1: decay of the first moment.
    b2: decay of the second moment.
    weight_decay: decoupled decay, on arrays of two axes or more per layer.
    clip_norm: global norm to which gradients are clipped.
  """

  peak_lr: float = 1e-4
  warmup_steps: int = 0
  decay_steps: int = 0
  end_lr: float = 0.0
  b1: float = 0.9
  b2: float = 0.999
  weight_decay: float = 0.01
  clip_norm: float = 1.0


def schedule(config: OptimizerConfig) -> optax.Schedule:
  """Returns the learning rate as a function of the optimizer step."""
  after = (
    optax.cosine_decay_schedule(
      config.peak_lr, config.decay_steps, config.end_lr / config.peak_lr
    )
    if config.decay_steps
    else optax.constant_schedule(config.peak_lr)
  )
  if not config.warmup_steps:
    return after
  # From peak/warm-up, not 0: the first step should not be wasted.
  first = config.peak_lr / config.warmup_steps
  ramp = optax.linear_schedule(
    first, config.peak_lr, max(config.warmup_steps - 1, 1)
  )
  return optax.join_schedules([ramp, after], [config.warmup_steps])


def decayed(params: Any) -> Any:
  """Returns which leaves take weight decay: matrices, not norms or biases."""

  def is_matrix(path, _):
    name = jax.tree_util.keystr(path[-1:], simple=True)
    return name not in ("weight", "bias")

  return jax.tree_util.tree_map_with_path(is_matrix, params)


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
  """Returns clip by global norm, then AdamW with the schedule."""
  if not config.peak_lr > 0:
    raise ValueError(
      f"peak_lr is {config.peak_lr}, expected a positive learning rate"
    )
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(
      schedule(config),
      b1=config.b1,
      b2=config.b2,
      weight_decay=config.weight_decay,
      mask=decayed,
    ),
  )
