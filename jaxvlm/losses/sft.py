"""Supervised fine-tuning, and its form that holds gentle negatives away."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxvlm.losses.arguments import (
  check_mask,
  check_range,
  check_same_shape,
)
from jaxvlm.losses.parts import keep, weighted_mean
from jaxvlm.metrics import Mean, masked_mean, scalar


def sft_loss(
  logprobs: Array,
  mask: Array,
  *,
  label_smoothing: Array | float = 0.0,
  mean_vocab_logprobs: Array | None = None,
  normalizer: Array | float | None = None,
) -> tuple[Array, dict[str, Mean]]:
  """Token-mean cross-entropy against a smoothed target.

  L = −(1/Z) Σ_t [ (1−α)·log π(y_t) + α·(1/V) Σ_v log π(v) ]

  Label smoothing as in Szegedy et al., arXiv:1512.00567, Section 7.

  Args:
    logprobs: f32[..., T] log π(y_t), nats.
    mask: bool[..., T] the tokens that count.
    label_smoothing: α in [0, 1].
    mean_vocab_logprobs: f32[..., T] mean log-probability over the vocabulary
      (`TokenStats.mean_logprobs`); needed when α is not 0.
    normalizer: f32[] Z; None counts the mask. Under gradient accumulation:
      the token count of the whole batch.

  Returns:
    (f32[] loss, metrics): `loss/sft`; `loss/nll` is the unsmoothed mean.

  Raises:
    ValueError: shapes that differ, a mask that is not boolean, α outside
      [0, 1], smoothing without `mean_vocab_logprobs`.
  """
  check_same_shape(
    logprobs=logprobs, mask=mask, mean_vocab_logprobs=mean_vocab_logprobs
  )
  check_mask("mask", mask)
  check_range(0, 1, label_smoothing=label_smoothing)
  smooth = not (
    isinstance(label_smoothing, int | float) and not label_smoothing
  )
  nll = -keep(logprobs, mask)
  losses = nll
  if smooth:
    if mean_vocab_logprobs is None:
      raise ValueError(
        f"label_smoothing is {label_smoothing} and mean_vocab_logprobs is None:"
        " pass TokenStats.mean_logprobs"
      )
    uniform = -keep(mean_vocab_logprobs, mask)
    losses = (1.0 - label_smoothing) * nll + label_smoothing * uniform
  weights = mask.astype(jnp.float32)
  loss = weighted_mean(losses, weights, normalizer)
  return loss, {
    "loss/sft": masked_mean(losses, mask),
    "loss/nll": masked_mean(nll, mask),
  }


def sft_c_loss(
  positive_logprobs: Array,
  positive_mask: Array,
  negative_logprobs: Array,
  negative_mask: Array,
  *,
  floor: Array | float,
  weight: Array | float,
  positive_normalizer: Array | float | None = None,
  negative_normalizer: Array | float | None = None,
  negative_mean: Array | float | None = None,
) -> tuple[Array, dict[str, Mean]]:
  """Cross-entropy with a floor under the negatives' mean NLL.

  L = NLL(y⁺) + λ·ReLU(C − NLL(y⁻)),  NLL = token mean over the whole batch

  arXiv:2510.11978, Eq. 4.2. Whether the hinge is open is a fact of the whole
  batch: a micro-batch is told by `negative_mean`, and then contributes its
  share −λ·NLL_share of the gradient. The shares of the micro-batches add up
  to the loss of the whole batch in value and gradient if each is given the
  same three numbers of the whole batch.

  Args:
    positive_logprobs: f32[..., T] log π(y⁺_t), nats.
    positive_mask: bool[..., T].
    negative_logprobs: f32[..., T'] log π(y⁻_t), nats.
    negative_mask: bool[..., T']. Without any negative the penalty is 0.
    floor: C, nats per token.
    weight: λ >= 0.
    positive_normalizer: f32[] tokens of y⁺ in the whole batch.
    negative_normalizer: f32[] tokens of y⁻ in the whole batch.
    negative_mean: f32[] mean NLL(y⁻) of the whole batch, in nats per token;
      a constant under differentiation.

  Returns:
    (f32[] loss, metrics): `loss/nll_positive`, `loss/nll_negative`,
    `loss/hinge_open`.

  Raises:
    ValueError: shapes that differ, a mask that is not boolean, λ < 0, a
      `negative_mean` without a `negative_normalizer`.
  """
  check_same_shape(
    positive_logprobs=positive_logprobs, positive_mask=positive_mask
  )
  check_same_shape(
    negative_logprobs=negative_logprobs, negative_mask=negative_mask
  )
  check_mask("positive_mask", positive_mask)
  check_mask("negative_mask", negative_mask)
  check_range(0, float("inf"), weight=weight)
  if (negative_mean is None) != (negative_normalizer is None):
    raise ValueError(
      "negative_mean and negative_normalizer belong together: got only one "
      "of them; under accumulation pass the whole batch's mean and count"
    )
  positive = -keep(positive_logprobs, positive_mask)
  negative = -keep(negative_logprobs, negative_mask)
  positive_weights = positive_mask.astype(jnp.float32)
  negative_weights = negative_mask.astype(jnp.float32)
  count = jnp.sum(negative_weights)
  share = weighted_mean(negative, negative_weights, negative_normalizer)
  if negative_mean is None:
    negative_mean, fraction, some = share, 1.0, count > 0
  else:
    total = jnp.asarray(negative_normalizer, jnp.float32)
    some = total > 0
    fraction = count / jnp.where(some, total, 1.0)
  negative_mean = jax.lax.stop_gradient(negative_mean)
  is_open = jnp.logical_and(some, negative_mean < floor)
  # An open hinge is linear: C splits by token count, the NLL by its sum.
  penalty = jnp.where(is_open, weight * (floor * fraction - share), 0.0)
  loss = weighted_mean(positive, positive_weights, positive_normalizer)
  return loss + penalty, {
    "loss/nll_positive": masked_mean(positive, positive_mask),
    "loss/nll_negative": masked_mean(negative, negative_mask),
    "loss/hinge_open": scalar(is_open),
  }


def entropy_bonus(
  entropies: Array,
  mask: Array,
  *,
  coef: Array | float,
  normalizer: Array | float | None = None,
) -> tuple[Array, dict[str, Mean]]:
  """Reward for staying uncertain; add it to any loss.

  L = −c·(1/Z) Σ_t H(π(·|s_t))

  Mnih et al., arXiv:1602.01783, Section 4.

  Args:
    entropies: f32[..., T] exact entropies, nats.
    mask: bool[..., T].
    coef: c; negative to sharpen.
    normalizer: f32[] Z; None counts the mask.

  Returns:
    (f32[] loss, metrics): `policy/entropy`.

  Raises:
    ValueError: shapes that differ, a mask that is not boolean.
  """
  check_same_shape(entropies=entropies, mask=mask)
  check_mask("mask", mask)
  kept = keep(entropies, mask)
  mean = weighted_mean(kept, mask.astype(jnp.float32), normalizer)
  return -coef * mean, {"policy/entropy": masked_mean(kept, mask)}
