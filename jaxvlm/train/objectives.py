"""Where models and losses meet: (params, frozen, batch, totals) -> loss.

Each function returns an `Objective` for `make_train_step`; `frozen` holds
trees that take no gradient (the teacher). `count` is the matching
`Totals`: tokens and sequences of the whole batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxvlm import losses, metrics
from jaxvlm.rollout import statistics
from jaxvlm.tokenstats import TokenStats
from jaxvlm.train.step import Objective
from jaxvlm.typing import Batch, Model, Params, PyTree


class Experience(NamedTuple):
  """Completions of the policy with what the update needs of them.

  Attributes:
    batch: prompts and sampled completions.
    old_logprobs: f32[N, G, T] under the policy that sampled them, at the
      sampling temperature, full vocabulary.
    advantages: f32[N, G].
  """

  batch: Batch
  old_logprobs: Array
  advantages: Array


def batch_of(inputs: Batch | Experience) -> Batch:
  """Returns the batch of either kind of input."""
  return inputs.batch if isinstance(inputs, Experience) else inputs


class Counts(NamedTuple):
  """Normalizers of a whole batch, f32[] each."""

  tokens: Array
  sequences: Array


def count(inputs: Batch | Experience) -> Counts:
  """Returns how many completion tokens and completions count."""
  mask = batch_of(inputs).mask
  return Counts(
    jnp.sum(mask.astype(jnp.float32)),
    jnp.sum(jnp.any(mask, axis=-1).astype(jnp.float32)),
  )


# mask bool[…, T], totals of the whole batch -> f32[…, T]
Weights = Callable[[Array, Counts], Array]


def per_token(mask: Array, totals: Counts) -> Array:
  """Every token of the batch weighs the same (DAPO)."""
  return losses.token_mean(mask, normalizer=totals.tokens)


def per_sequence(mask: Array, totals: Counts) -> Array:
  """Every completion of the batch weighs the same (GRPO)."""
  return losses.sequence_mean(mask, normalizer=totals.sequences)


def sft(
  model: Model, *, vocab_size: int, label_smoothing: float = 0.0
) -> Objective:
  """Returns supervised fine-tuning: token-mean negative log-likelihood."""

  def objective(params: Params, frozen: PyTree, batch: Batch, total: Counts):
    stats = statistics(model, params, batch, vocab_size=vocab_size)
    smooth = stats.mean_logprobs if label_smoothing else None
    loss, out = losses.sft_loss(
      stats.logprobs,
      batch.mask,
      label_smoothing=label_smoothing,
      mean_vocab_logprobs=smooth,
      normalizer=total.tokens,
    )
    return loss, {**out, **_policy(stats, batch)}

  return objective


def opd(
  model: Model, teacher: Model, *, vocab_size: int, temperature: float = 1.0
) -> Objective:
  """Returns on-policy distillation by exact reverse KL.

  The completions are the student's own samples; `frozen["teacher"]` holds the
  teacher's parameters. The sampled estimate of the same divergence is logged
  beside the exact one.
  """

  def objective(params: Params, frozen: PyTree, batch: Batch, total: Counts):
    stats = statistics(
      model,
      params,
      batch,
      vocab_size=vocab_size,
      temperature=temperature,
      teacher=(teacher, frozen["teacher"]),
    )
    loss, out = losses.opd_loss(
      stats.reverse_kl, batch.mask, normalizer=total.tokens
    )
    sampled = stats.logprobs - stats.teacher_logprobs
    out = {
      **out,
      "policy/kl_teacher_sampled": metrics.masked_mean(sampled, batch.mask),
      **_policy(stats, batch),
    }
    return loss, out

  return objective


def grpo(
  model: Model,
  *,
  vocab_size: int,
  temperature: float = 1.0,
  clip_low: float = 0.2,
  clip_high: float = 0.2,
  kl_coef: float = 0.0,
  weights: Weights = per_token,
) -> Objective:
  """Returns GRPO over groups of completions.

  With `kl_coef` > 0, `frozen["reference"]` holds the reference's parameters.
  """

  def objective(
    params: Params, frozen: PyTree, inputs: Experience, total: Counts
  ):
    batch = inputs.batch
    stats = statistics(
      model, params, batch, vocab_size=vocab_size, temperature=temperature
    )
    ref_logprobs = None
    if kl_coef:
      ref_logprobs = statistics(
        model,
        frozen["reference"],
        batch,
        vocab_size=vocab_size,
        temperature=temperature,
      ).logprobs
    loss, out = losses.grpo_loss(
      stats.logprobs,
      inputs.old_logprobs,
      inputs.advantages,
      batch.mask,
      clip_low=clip_low,
      clip_high=clip_high,
      ref_logprobs=ref_logprobs,
      kl_coef=kl_coef,
      weights=weights(batch.mask, total),
    )
    gap = jnp.abs(stats.logprobs - inputs.old_logprobs)
    out = {
      **out,
      "rollout/logprob_gap": metrics.masked_mean(gap, batch.mask),
      **_policy(stats, batch),
    }
    return loss, out

  return objective


def _policy(stats: TokenStats, batch: Batch) -> dict[str, metrics.Mean]:
  """Returns the entropy of the whole next-token distribution, and −log p."""
  return {
    "policy/entropy": metrics.masked_mean(stats.entropies, batch.mask),
    "policy/neg_logprob": metrics.masked_mean(-stats.logprobs, batch.mask),
  }
