"""What several objectives are made of."""

import jax.numpy as jnp
from jax import Array

MAX_LOG_RATIO = 80.0  # exp of more overflows float32


def keep(x: Array, mask: Array) -> Array:
  """Returns f32 `x` with exactly 0 outside the mask.

  The selection stands before all arithmetic, so that a NaN outside reaches
  neither the value nor, by 0 · NaN, the gradient.
  """
  return jnp.where(mask, x.astype(jnp.float32), 0.0)


def weighted_mean(
  x: Array, weights: Array, normalizer: Array | float | None
) -> Array:
  """Returns f32[] Σ w·x / normalizer (Σ w by default); 0 without weight."""
  total = jnp.sum(weights) if normalizer is None else normalizer
  total = jnp.asarray(total, jnp.float32)
  empty = total == 0
  mean = jnp.sum(weights * x) / jnp.where(empty, 1.0, total)
  return jnp.where(empty, 0.0, mean)


def policy_ratio(gap: Array) -> Array:
  """Returns exp(gap), gap = log π_θ/π_old, finite however large the gap.

  An infinite ratio that is clipped away afterwards would still turn the
  gradient into 0 · ∞.
  """
  return jnp.exp(jnp.minimum(gap, MAX_LOG_RATIO))


def clipped_objective(
  ratio: Array, advantages: Array, clip_low: float, clip_high: float
) -> tuple[Array, Array]:
  """Returns (min(ρ·A, clip(ρ, 1−ε_l, 1+ε_h)·A), where it was clipped).

  PPO, arXiv:1707.06347, Eq. 7. Not by jnp.minimum, which halves the gradient
  between equals.
  """
  clipped = jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
  is_clipped = clipped * advantages < ratio * advantages
  return jnp.where(is_clipped, clipped, ratio) * advantages, is_clipped
