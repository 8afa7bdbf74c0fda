"""Supervised fine-tuning, and its form that holds gentle negatives away."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxvlm import losses
from jaxvlm.metrics import scalar
from jaxvlm.rollout import statistics
from jaxvlm.train.objectives.inputs import (
  Counts,
  policy_metrics,
  require_pairs,
)
from jaxvlm.train.step import BatchTotals, Objective
from jaxvlm.typing import Batch, Model, Params, PyTree


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
    return loss, {**out, **policy_metrics(stats, batch)}

  return objective


class Contrast(NamedTuple):
  """Totals of `sft_c`, f32[] each; those of micro-batches add up.

  Attributes:
    positive_tokens: tokens of y⁺.
    negative_tokens: tokens of y⁻.
    negative_nll: Σ −log π(y⁻_t) under the parameters before the step; None:
      the objective sees the whole batch and its own is it.
  """

  positive_tokens: Array
  negative_tokens: Array
  negative_nll: Array | None = None


def sft_c(
  model: Model, *, vocab_size: int, floor: float, weight: float
) -> Objective:
  """Returns SFT with a floor C under the mean NLL of y⁻, weighed by λ.

    L = NLL(y⁺) + λ·ReLU(C − mean_batch NLL(y⁻))

  arXiv:2510.11978, Eq. 4.2. A batch holds y⁺ and y⁻ of every prompt (G = 2).
  Its totals come from `sft_c_totals`, no others.
  """

  def objective(params: Params, frozen: PyTree, batch: Batch, total: Contrast):
    require_pairs(batch)
    if not isinstance(total, Contrast):
      raise ValueError(
        f"sft_c got totals of type {type(total).__name__}, expected Contrast:"
        " its hinge is on the mean of the whole batch; pass"
        " make_train_step(…, objectives.sft_c_totals(model, …), …)"
      )
    stats = statistics(model, params, batch, vocab_size=vocab_size)
    whole = {}
    if total.negative_nll is not None:
      tokens = jnp.maximum(total.negative_tokens, 1.0)
      whole = {
        "negative_normalizer": total.negative_tokens,
        "negative_mean": total.negative_nll / tokens,
      }
    loss, out = losses.sft_c_loss(
      stats.logprobs[:, 0],
      batch.mask[:, 0],
      stats.logprobs[:, 1],
      batch.mask[:, 1],
      floor=floor,
      weight=weight,
      positive_normalizer=total.positive_tokens,
      **whole,
    )
    return loss, {**out, **policy_metrics(stats, batch)}

  return objective


def sft_c_totals(model: Model, *, vocab_size: int) -> BatchTotals:
  """Returns the totals of `sft_c`: exact under micro-batches.

  Whether the hinge is open is known after all negatives have been read. With
  one micro-batch that is in time; with several, the negatives are read once
  more beforehand, without gradient and without y⁺.
  """

  def totals(batch: Batch) -> Contrast:
    require_pairs(batch)
    return Contrast(*jnp.sum(batch.mask.astype(jnp.float32), (0, 2)))

  def measure(params: Params, frozen: PyTree, batch: Batch) -> Contrast:
    rejected = batch._replace(
      tokens=batch.tokens[:, 1:], mask=batch.mask[:, 1:]
    )
    stats = statistics(model, params, rejected, vocab_size=vocab_size)
    nll = -jnp.sum(jnp.where(rejected.mask, stats.logprobs, 0.0))
    return totals(batch)._replace(negative_nll=nll)

  return BatchTotals(totals, measure)


class Multiplied(NamedTuple):
  """Pairs, and the multiplier λ >= 0 of the constraint on their negatives."""

  batch: Batch
  multiplier: Array


def sft_constrained(
  model: Model, *, vocab_size: int, floor: float
) -> Objective:
  """Returns the Lagrangian of SFT whose negatives keep a mean NLL of C.

    L = NLL(y⁺) + λ·(C − mean_batch NLL(y⁻))

  The hard constraint that SFT-C relaxes (arXiv:2510.11978, Section 4.1); λ is
  raised between the steps while the constraint is broken (`ascend`). One
  micro-batch only: λ belongs to a whole batch.
  """

  def objective(
    params: Params, frozen: PyTree, inputs: Multiplied, total: Contrast
  ):
    batch, multiplier = inputs
    require_pairs(batch)
    stats = statistics(model, params, batch, vocab_size=vocab_size)
    (positive, _), (negative, _) = (
      losses.sft_loss(stats.logprobs[:, k], batch.mask[:, k], normalizer=count)
      for k, count in enumerate((total.positive_tokens, total.negative_tokens))
    )
    return positive + multiplier * (floor - negative), {
      "loss/nll_positive": scalar(positive),
      "loss/nll_negative": scalar(negative),
      "loss/multiplier": scalar(multiplier),
      **policy_metrics(stats, batch),
    }

  return objective


def constrained_totals(inputs: Multiplied) -> Contrast:
  """Returns the totals of `sft_constrained`."""
  return Contrast(*jnp.sum(inputs.batch.mask.astype(jnp.float32), (0, 2)))


def ascend(
  multiplier: Array, negative_nll: Array, *, floor: float, rate: float
) -> Array:
  """Returns λ ← max(0, λ + ρ·(C − NLL(y⁻))), a step of dual ascent.

  Args:
    multiplier: f32[] λ.
    negative_nll: f32[] mean NLL of the negatives, nats per token.
    floor: C, nats per token.
    rate: ρ > 0.
  """
  return jnp.maximum(0.0, multiplier + rate * (floor - negative_nll))
