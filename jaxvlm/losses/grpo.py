"""Group-relative policy optimization and its relatives."""

import sys

import jax
import jax.numpy as jnp
from jax import Array

from jaxvlm.losses.arguments import (
  check_mask,
  check_positive,
  check_range,
  check_same_shape,
)
from jaxvlm.losses.parts import (
  MAX_LOG_RATIO,
  clipped_objective,
  keep,
  policy_ratio,
)
from jaxvlm.metrics import Mean, masked_mean


def token_mean(
  mask: Array, *, normalizer: Array | float | None = None
) -> Array:
  """Every token weighs the same: w = mask / Z.

  DAPO, arXiv:2503.14476, Eq. 8.

  Args:
    mask: bool[..., T].
    normalizer: f32[] Z, tokens of the whole batch; None counts the mask.

  Returns:
    f32[..., T] weights; 0 everywhere if nothing counts.
  """
  check_mask("mask", mask)
  kept = mask.astype(jnp.float32)
  return _over(kept, jnp.sum(kept) if normalizer is None else normalizer)


def sequence_mean(
  mask: Array, *, normalizer: Array | float | None = None
) -> Array:
  """Every sequence weighs the same: w = mask / (|o_i|·Z).

  GRPO, arXiv:2402.03300, Eq. 3.

  Args:
    mask: bool[..., T]; a row without tokens is padding, not a sequence.
    normalizer: f32[] Z, sequences of the whole batch; None counts the rows
      that hold a token.

  Returns:
    f32[..., T] weights.
  """
  check_mask("mask", mask)
  kept = mask.astype(jnp.float32)
  lengths = jnp.sum(kept, -1, keepdims=True)
  return _over(_over(kept, lengths), _sequences(mask, normalizer))


def constant_length(
  mask: Array, length: int, *, normalizer: Array | float | None = None
) -> Array:
  """A token weighs the same whatever its completion's length: mask / (L·Z).

  Dr. GRPO, arXiv:2503.20783, Section 3.3. Rows without a token do not count
  as sequences; give `normalizer` for a constant over batches with such rows.

  Args:
    mask: bool[..., T].
    length: L > 0, tokens; the longest completion allowed.
    normalizer: f32[] Z, sequences of the whole batch; None counts the rows
      that hold a token.

  Returns:
    f32[..., T] weights.
  """
  check_mask("mask", mask)
  check_positive(length=length)
  kept = mask.astype(jnp.float32)
  return _over(kept, length * _sequences(mask, normalizer))


def _sequences(mask, normalizer):
  if normalizer is not None:
    return jnp.asarray(normalizer, jnp.float32)
  return jnp.sum(jnp.any(mask, -1).astype(jnp.float32))


def _over(x, total):
  return jnp.where(total == 0, 0.0, x / jnp.where(total == 0, 1.0, total))


def grpo_loss(
  logprobs: Array,
  old_logprobs: Array,
  advantages: Array,
  mask: Array,
  *,
  clip_low: float = 0.2,
  clip_high: float = 0.2,
  dual_clip: float | None = None,
  ref_logprobs: Array | None = None,
  kl_coef: Array | float = 0.0,
  sequence_ratio: bool = False,
  sampling_logprobs: Array | None = None,
  max_importance_weight: float = 2.0,
  entropies: Array | None = None,
  entropy_coef: Array | float = 0.0,
  weights: Array | None = None,
  normalizer: Array | float | None = None,
) -> tuple[Array, dict[str, Mean]]:
  """Clipped policy gradient on group-relative advantages.

  L = −Σ_t w_t·{ u_t·min(ρ_t·A_t, clip(ρ_t, 1−ε_l, 1+ε_h)·A_t)
                 − β·k3_t + c·H_t }
  ρ_t = π_θ/π_old,  k3 = π_ref/π_θ − log(π_ref/π_θ) − 1

  GRPO, arXiv:2402.03300, Eq. 3 and 4; asymmetric clipping DAPO,
  arXiv:2503.14476, Eq. 8; dual clip arXiv:1912.09729, Eq. 7: for A < 0 the
  objective is at least c·A; sequence ratio GSPO, arXiv:2507.18071, Eq. 7:
  ρ = exp(mean_t log π_θ/π_old) for every token; truncated importance weight
  u_t = min(π_old/π_sampling, C), a constant, for rollouts of another engine
  or an older policy.

  Args:
    logprobs: f32[..., T] log π_θ(y_t), nats.
    old_logprobs: f32[..., T] log π_old(y_t), the ratio's denominator.
    advantages: f32[...] per sequence or f32[..., T] per token.
    mask: bool[..., T] the tokens that count.
    clip_low: ε_l in [0, 1].
    clip_high: ε_h >= 0.
    dual_clip: c > 1, or None.
    ref_logprobs: f32[..., T] log π_ref(y_t), for the KL term.
    kl_coef: β >= 0; needs `ref_logprobs` when not 0.
    sequence_ratio: one ratio a sequence, over the last axis.
    sampling_logprobs: f32[..., T] log-probabilities under which the tokens
      were really drawn, or None.
    max_importance_weight: C > 0.
    entropies: f32[..., T] exact entropies, nats: logged, and with
      `entropy_coef` a bonus.
    entropy_coef: c >= 0; needs `entropies` when not 0.
    weights: f32[..., T] w: `token_mean(mask)` (default),
      `sequence_mean(mask)` or `constant_length(mask, n)`; for accumulation,
      made with the whole batch's normalizer.
    normalizer: f32[] the whole batch's token count, for the default weights.

  Returns:
    (f32[] loss, metrics): `loss/policy`, `policy/ratio`,
    `policy/clip_fraction`, `policy/kl_old` (k3 of π_old), and where their
    inputs are given `policy/kl_ref`, `policy/entropy`,
    `policy/importance_weight`.

  Raises:
    ValueError: shapes that differ, a mask that is not boolean, a coefficient
      without its input, numbers out of range, both weights and normalizer.
  """
  check_same_shape(
    logprobs=logprobs,
    old_logprobs=old_logprobs,
    mask=mask,
    ref_logprobs=ref_logprobs,
    sampling_logprobs=sampling_logprobs,
    entropies=entropies,
    weights=weights,
  )
  check_mask("mask", mask)
  check_settings(clip_low=clip_low, clip_high=clip_high, kl_coef=kl_coef)
  check_positive(max_importance_weight=max_importance_weight)
  if dual_clip is not None and not dual_clip > 1:
    raise ValueError(f"dual_clip is {dual_clip}, expected > 1 or None")
  _check_pair("kl_coef", kl_coef, "ref_logprobs", ref_logprobs)
  _check_pair("entropy_coef", entropy_coef, "entropies", entropies)
  if weights is not None and normalizer is not None:
    raise ValueError(
      "weights and normalizer were both given: pass the normalizer to the "
      "function that makes the weights"
    )
  if weights is None:
    weights = token_mean(mask, normalizer=normalizer)
  weights = jax.lax.stop_gradient(keep(weights, mask))
  logprobs = keep(logprobs, mask)
  old = jax.lax.stop_gradient(keep(old_logprobs, mask))
  advantages = keep(_per_token(advantages, mask), mask)
  advantages = jax.lax.stop_gradient(advantages)

  gap = logprobs - old
  if sequence_ratio:
    lengths = jnp.sum(mask, -1, keepdims=True)
    gap = jnp.sum(gap, -1, keepdims=True) / jnp.maximum(lengths, 1)
    gap = jnp.broadcast_to(gap, mask.shape)
  ratio = policy_ratio(gap)
  objective, is_clipped = clipped_objective(
    ratio, advantages, clip_low, clip_high
  )
  if dual_clip is not None:
    floor = dual_clip * advantages
    negative = advantages < 0
    is_clipped |= negative & (objective < floor)
    objective = jnp.where(negative, jnp.maximum(objective, floor), objective)
  metrics = {
    "policy/ratio": masked_mean(ratio, mask),
    "policy/clip_fraction": masked_mean(is_clipped, mask),
    "policy/kl_old": masked_mean(_k3(logprobs, old), mask),
  }
  if sampling_logprobs is not None:
    drawn = jax.lax.stop_gradient(keep(sampling_logprobs, mask))
    importance = jnp.minimum(jnp.exp(old - drawn), max_importance_weight)
    objective = importance * objective
    metrics["policy/importance_weight"] = masked_mean(importance, mask)
  if ref_logprobs is not None:
    ref = jax.lax.stop_gradient(keep(ref_logprobs, mask))
    kl = _k3(logprobs, ref)
    objective = objective - kl_coef * kl
    metrics["policy/kl_ref"] = masked_mean(kl, mask)
  if entropies is not None:
    kept = keep(entropies, mask)
    objective = objective + entropy_coef * kept
    metrics["policy/entropy"] = masked_mean(kept, mask)
  loss = -jnp.sum(weights * keep(objective, mask))
  metrics["loss/policy"] = Mean(loss, jnp.sum(weights))
  return loss, metrics


def _k3(logprobs: Array, other: Array) -> Array:
  """Estimates KL(π‖other) >= 0 from a sample of π (Schulman's k3)."""
  gap = other - logprobs
  # Capped like the ratio: an infinite term would turn a coefficient of 0,
  # or a metric that is only logged, into NaN.
  return jnp.expm1(jnp.minimum(gap, MAX_LOG_RATIO)) - gap


def _per_token(advantages: Array, mask: Array) -> Array:
  if advantages.shape == mask.shape:
    return advantages
  if advantages.shape == mask.shape[:-1]:
    return jnp.broadcast_to(advantages[..., None], mask.shape)
  raise ValueError(
    f"advantages has shape {advantages.shape}, expected {mask.shape[:-1]} (a "
    f"sequence each) or {mask.shape} (a token each)"
  )


def check_settings(
  *, clip_low: float, clip_high: float, kl_coef: Array | float
) -> None:
  """Raises ValueError for a Python number outside its range."""
  check_range(0, 1, clip_low=clip_low)
  check_range(0, float("inf"), clip_high=clip_high)
  check_range(0, sys.float_info.max, kl_coef=kl_coef)


def _check_pair(coef_name, coef, array_name, array) -> None:
  if array is None and not (isinstance(coef, int | float) and coef == 0):
    raise ValueError(
      f"{coef_name} is {coef} and {array_name} is None: expected "
      f"{array_name}, or {coef_name} = 0"
    )
