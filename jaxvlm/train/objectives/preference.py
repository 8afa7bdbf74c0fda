"""Preference optimization: DPO, CW-DPO and Focal-DPO.

A batch holds the chosen and the rejected completion of every prompt (G = 2),
which share one pass over the prompt. `frozen["reference"]` holds the
reference's parameters; its log-probabilities are computed inside the step.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxvlm import losses, metrics
from jaxvlm.metrics import Metric
from jaxvlm.rollout import statistics
from jaxvlm.train.objectives.inputs import (
  Counts,
  frozen_params,
  policy_metrics,
  require_pairs,
)
from jaxvlm.train.step import Objective
from jaxvlm.typing import Batch, Model, Params, PyTree


class Pairs(NamedTuple):
  """Log-probabilities of N pairs, f32[N, 2] each: (chosen, rejected).

  Attributes:
    sums: Σ_t log π_θ(y_t), nats.
    means: the same over the length, nats per token.
    reference: Σ_t log π_ref(y_t), nats.
    mask: bool[N] pairs both of whose completions have tokens.
  """

  sums: Array
  means: Array
  reference: Array
  mask: Array

  def arrays(self) -> tuple[Array, Array, Array, Array]:
    """Returns chosen, rejected and both under the reference, f32[N] each."""
    policy, reference = self.sums, self.reference
    return policy[:, 0], policy[:, 1], reference[:, 0], reference[:, 1]


# (pairs, pairs of the whole batch) -> loss, metrics
PairLoss = Callable[[Pairs, Array], tuple[Array, dict[str, Metric]]]


def dpo(model: Model, *, vocab_size: int, beta: float) -> Objective:
  """Returns DPO (arXiv:2305.18290, Eq. 7)."""

  def loss(pairs: Pairs, total: Array):
    return losses.dpo_loss(
      *pairs.arrays(), beta=beta, mask=pairs.mask, normalizer=total
    )

  return _preference("dpo", model, vocab_size, loss)


def cw_dpo(
  model: Model,
  *,
  vocab_size: int,
  beta: float,
  floor: float,
  tau: float,
  differentiate_weight: bool = False,
  constant_weight: float | None = None,
  easier_than: float | None = None,
) -> Objective:
  """Returns DPO with cooled negatives (arXiv:2510.11978, Eq. 4.5).

  Args:
    model: functions of policy and reference.
    vocab_size: the tokenizer's.
    beta: β > 0.
    floor: ℓ_floor, nats per token.
    tau: τ > 0, nats per token.
    differentiate_weight: lets gradient flow through w_c.
    constant_weight: replaces w_c (the paper's ablation); 1 is DPO.
    easier_than: leaves out pairs whose negative has a mean log-probability
      below this, nats per token (the paper's filter; it prints no threshold).
      They still count in the mean: how many they are changes during training,
      and the weight of all others should not change with it.
  """

  def loss(pairs: Pairs, total: Array):
    mask = pairs.mask
    if easier_than is not None:
      mask &= losses.hard_negatives(pairs.means[:, 1], threshold=easier_than)
    return losses.cw_dpo_loss(
      *pairs.arrays(),
      pairs.means[:, 1],
      beta=beta,
      floor=floor,
      tau=tau,
      differentiate_weight=differentiate_weight,
      constant_weight=constant_weight,
      mask=mask,
      normalizer=total,
    )

  return _preference("cw_dpo", model, vocab_size, loss)


def focal_dpo(
  model: Model, *, vocab_size: int, beta: float, gamma: float
) -> Objective:
  """Returns DPO under the focal loss (arXiv:1708.02002, Eq. 4)."""

  def loss(pairs: Pairs, total: Array):
    return losses.focal_dpo_loss(
      *pairs.arrays(),
      beta=beta,
      gamma=gamma,
      mask=pairs.mask,
      normalizer=total,
    )

  return _preference("focal_dpo", model, vocab_size, loss)


def _preference(
  name: str, model: Model, vocab_size: int, loss_of: PairLoss
) -> Objective:
  """Returns the objective `name` of a loss over pairs."""

  def objective(params: Params, frozen: PyTree, batch: Batch, total: Counts):
    require_pairs(batch)
    reference = statistics(
      model,
      frozen_params(frozen, "reference", name),
      batch,
      vocab_size=vocab_size,
    )
    stats = statistics(model, params, batch, vocab_size=vocab_size)
    sums, means = losses.sequence_logprobs(stats.logprobs, batch.mask)
    ref_sums, _ = losses.sequence_logprobs(reference.logprobs, batch.mask)
    mask = jnp.all(jnp.any(batch.mask, axis=-1), axis=-1)
    loss, out = loss_of(Pairs(sums, means, ref_sums, mask), total.groups)
    out = {
      **out,
      "policy/chosen_mean_logprob": metrics.masked_mean(means[:, 0], mask),
      "policy/rejected_mean_logprob": metrics.masked_mean(means[:, 1], mask),
      **policy_metrics(stats, batch),
    }
    return loss, out

  return objective
