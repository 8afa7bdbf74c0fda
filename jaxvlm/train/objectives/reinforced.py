"""Policy gradients from rewards."""

from collections.abc import Callable

from jax import Array

from jaxvlm import losses
from jaxvlm.rollout import statistics
from jaxvlm.train import drift
from jaxvlm.train.objectives.inputs import (
  Counts,
  Experience,
  frozen_params,
  policy_metrics,
)
from jaxvlm.train.step import Objective
from jaxvlm.typing import Model, Params, PyTree

# mask bool[…, T], totals of the whole batch -> f32[…, T]
Weights = Callable[[Array, Counts], Array]


def per_token(mask: Array, totals: Counts) -> Array:
  """Every token of the batch weighs the same (DAPO)."""
  return losses.token_mean(mask, normalizer=totals.tokens)


def per_sequence(mask: Array, totals: Counts) -> Array:
  """Every completion of the batch weighs the same (GRPO)."""
  return losses.sequence_mean(mask, normalizer=totals.sequences)


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
    batch, reference = inputs.batch, None
    if kl_coef:
      reference = frozen_params(frozen, "reference", "grpo with kl_coef > 0")
    stats = statistics(
      model, params, batch, vocab_size=vocab_size, temperature=temperature
    )
    ref_logprobs = None
    if reference is not None:
      ref_logprobs = statistics(
        model,
        reference,
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
    out = {
      **out,
      **drift.figures(stats.logprobs, inputs.old_logprobs, inputs.current),
      **policy_metrics(stats, batch),
    }
    return loss, out

  return objective
