"""Direct preference optimization, and its form that cools easy negatives."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxvlm.losses.arguments import (
  check_mask,
  check_positive,
  check_range,
  check_same_shape,
)
from jaxvlm.losses.parts import keep, weighted_mean
from jaxvlm.metrics import Mean, masked_mean


def sequence_logprobs(logprobs: Array, mask: Array) -> tuple[Array, Array]:
  """Sum and mean of a sequence's token log-probabilities.

  Args:
    logprobs: f32[..., T], nats.
    mask: bool[..., T].

  Returns:
    (f32[...] Σ_t log π(y_t), f32[...] the same over the length); both 0 for
    a sequence without tokens.

  Raises:
    ValueError: shapes that differ, a mask that is not boolean.
  """
  check_same_shape(logprobs=logprobs, mask=mask)
  check_mask("mask", mask)
  total = jnp.sum(keep(logprobs, mask), -1)
  return total, total / jnp.maximum(jnp.sum(mask, -1), 1)


def cooling_weight(
  mean_logprobs: Array, *, floor: Array | float, tau: Array | float
) -> Array:
  """How much of a negative is still worth unlearning.

  w_c = σ((l̄ − ℓ_floor) / τ)

  arXiv:2510.11978, Section 4.2. Far below the floor the policy already finds
  the negative unlikely (easy) and w_c → 0; far above it w_c → 1.

  Args:
    mean_logprobs: f32[...] mean token log-probability l̄, nats per token.
    floor: ℓ_floor, nats per token.
    tau: τ > 0, nats per token.

  Returns:
    f32[...] in (0, 1), differentiable.

  Raises:
    ValueError: τ <= 0.
  """
  check_positive(tau=tau)
  return jax.nn.sigmoid((mean_logprobs.astype(jnp.float32) - floor) / tau)


def hard_negatives(mean_logprobs: Array, *, threshold: float) -> Array:
  """The pairs whose negative is not extremely easy, as a `mask`.

  The filter that the ablation of arXiv:2510.11978 (Table 3, "w/o Negative
  Filtering") implies; its threshold is not published, so there is no default.

  Args:
    mean_logprobs: f32[...] mean token log-probability of y_l, nats per token.
    threshold: nats per token.

  Returns:
    bool[...] True where mean_logprobs >= threshold.
  """
  return mean_logprobs >= threshold


def dpo_loss(
  chosen_logprobs: Array,
  rejected_logprobs: Array,
  ref_chosen_logprobs: Array,
  ref_rejected_logprobs: Array,
  *,
  beta: Array | float,
  mask: Array | None = None,
  normalizer: Array | float | None = None,
) -> tuple[Array, dict[str, Mean]]:
  """Preference as classification by implicit rewards.

  L = −mean log σ(β·(Δ_w − Δ_l)),  Δ = log π_θ(y|x) − log π_ref(y|x)

  DPO, arXiv:2305.18290, Eq. 7.

  Args:
    chosen_logprobs: f32[B] log π_θ(y_w|x), a sum over tokens, nats.
    rejected_logprobs: f32[B] log π_θ(y_l|x).
    ref_chosen_logprobs: f32[B] log π_ref(y_w|x).
    ref_rejected_logprobs: f32[B] log π_ref(y_l|x).
    beta: β > 0.
    mask: bool[B] the pairs that count; None: all.
    normalizer: f32[] pairs of the whole batch; None counts the mask.

  Returns:
    (f32[] loss, metrics): `loss/dpo`, `policy/preference_accuracy`,
    `policy/margin` (β-scaled), `policy/chosen_shift`,
    `policy/rejected_shift` (Δ, nats).

  Raises:
    ValueError: shapes that differ, β <= 0, a mask that is not boolean.
  """
  won, lost, mask = _shifts(
    chosen_logprobs,
    rejected_logprobs,
    ref_chosen_logprobs,
    ref_rejected_logprobs,
    beta,
    mask,
  )
  return _preference_loss(
    "loss/dpo", won, lost, mask, 1.0, beta, 0.0, normalizer
  )


def cw_dpo_loss(
  chosen_logprobs: Array,
  rejected_logprobs: Array,
  ref_chosen_logprobs: Array,
  ref_rejected_logprobs: Array,
  rejected_mean_logprobs: Array,
  *,
  beta: Array | float,
  floor: Array | float,
  tau: Array | float,
  differentiate_weight: bool = False,
  constant_weight: Array | float | None = None,
  mask: Array | None = None,
  normalizer: Array | float | None = None,
) -> tuple[Array, dict[str, Mean]]:
  """DPO whose loser term cools down once the loser is unlikely.

  L = −mean log σ(β·(Δ_w − w_c·Δ_l)),  w_c = σ((l̄(y_l) − ℓ_floor)/τ)

  arXiv:2510.11978, Eq. 4.5. With a constant w_c the gradient with respect to
  log π_θ(y_l|x) is β·(1 − a′)·w_c, a′ = σ(β·(Δ_w − w_c·Δ_l)).

  Args:
    chosen_logprobs: f32[B] log π_θ(y_w|x), a sum over tokens, nats.
    rejected_logprobs: f32[B] log π_θ(y_l|x).
    ref_chosen_logprobs: f32[B] log π_ref(y_w|x).
    ref_rejected_logprobs: f32[B] log π_ref(y_l|x).
    rejected_mean_logprobs: f32[B] l̄(y_l), mean over tokens, nats per token.
    beta: β > 0.
    floor: ℓ_floor, nats per token.
    tau: τ > 0, nats per token.
    differentiate_weight: lets gradient flow through w_c; the paper's
      derivation treats it as a local constant.
    constant_weight: replaces w_c by this number in [0, 1] (ablation "w/o
      Cooling Weight"); 1 is DPO.
    mask: bool[B] the pairs that count, for instance `hard_negatives(…)`.
    normalizer: f32[] pairs of the whole batch; None counts the mask.

  Returns:
    (f32[] loss, metrics): as `dpo_loss`, with `loss/cw_dpo` and
    `policy/cooling_weight`.

  Raises:
    ValueError: shapes that differ, β <= 0, τ <= 0, a constant weight outside
      [0, 1], a mask that is not boolean.
  """
  check_same_shape(
    chosen_logprobs=chosen_logprobs,
    rejected_mean_logprobs=rejected_mean_logprobs,
  )
  check_positive(tau=tau)
  check_range(0, 1, constant_weight=constant_weight)
  won, lost, mask = _shifts(
    chosen_logprobs,
    rejected_logprobs,
    ref_chosen_logprobs,
    ref_rejected_logprobs,
    beta,
    mask,
  )
  if constant_weight is None:
    mean = keep(rejected_mean_logprobs, mask)
    weight = cooling_weight(mean, floor=floor, tau=tau)
    if not differentiate_weight:
      weight = jax.lax.stop_gradient(weight)
  else:
    weight = jnp.full(won.shape, constant_weight, jnp.float32)
  loss, metrics = _preference_loss(
    "loss/cw_dpo", won, lost, mask, weight, beta, 0.0, normalizer
  )
  return loss, metrics | {"policy/cooling_weight": masked_mean(weight, mask)}


def focal_dpo_loss(
  chosen_logprobs: Array,
  rejected_logprobs: Array,
  ref_chosen_logprobs: Array,
  ref_rejected_logprobs: Array,
  *,
  beta: Array | float,
  gamma: Array | float,
  mask: Array | None = None,
  normalizer: Array | float | None = None,
) -> tuple[Array, dict[str, Mean]]:
  """DPO that looks away from pairs which are already won.

  L = −mean (1 − a)^γ·log a,  a = σ(β·(Δ_w − Δ_l))

  The focal loss of arXiv:1708.02002, Eq. 4, on DPO's classifier: the baseline
  named Focal-DPO in arXiv:2510.11978, which prints no formula. γ = 0 is DPO.

  Args:
    chosen_logprobs: f32[B] log π_θ(y_w|x), a sum over tokens, nats.
    rejected_logprobs: f32[B] log π_θ(y_l|x).
    ref_chosen_logprobs: f32[B] log π_ref(y_w|x).
    ref_rejected_logprobs: f32[B] log π_ref(y_l|x).
    beta: β > 0.
    gamma: γ >= 0.
    mask: bool[B] the pairs that count; None: all.
    normalizer: f32[] pairs of the whole batch; None counts the mask.

  Returns:
    (f32[] loss, metrics): as `dpo_loss`, with `loss/focal_dpo`.

  Raises:
    ValueError: shapes that differ, β <= 0, γ < 0, a mask that is not boolean.
  """
  check_range(0, float("inf"), gamma=gamma)
  won, lost, mask = _shifts(
    chosen_logprobs,
    rejected_logprobs,
    ref_chosen_logprobs,
    ref_rejected_logprobs,
    beta,
    mask,
  )
  return _preference_loss(
    "loss/focal_dpo", won, lost, mask, 1.0, beta, gamma, normalizer
  )


def _shifts(chosen, rejected, ref_chosen, ref_rejected, beta, mask):
  """Returns (Δ_w, Δ_l, mask), checked; 0 where a pair does not count."""
  check_same_shape(
    chosen_logprobs=chosen,
    rejected_logprobs=rejected,
    ref_chosen_logprobs=ref_chosen,
    ref_rejected_logprobs=ref_rejected,
    mask=mask,
  )
  check_positive(beta=beta)
  if mask is None:
    mask = jnp.ones(chosen.shape, bool)
  check_mask("mask", mask)
  ref_chosen, ref_rejected = jax.lax.stop_gradient((ref_chosen, ref_rejected))
  won = keep(chosen, mask) - keep(ref_chosen, mask)
  lost = keep(rejected, mask) - keep(ref_rejected, mask)
  return won, lost, mask


def _preference_loss(name, won, lost, mask, weight, beta, gamma, normalizer):
  margin = beta * (won - weight * lost)
  focus = jnp.exp(gamma * jax.nn.log_sigmoid(-margin))
  losses = -focus * jax.nn.log_sigmoid(margin)
  loss = weighted_mean(losses, mask.astype(jnp.float32), normalizer)
  return loss, {
    name: masked_mean(losses, mask),
    "policy/preference_accuracy": masked_mean(won > lost, mask),
    "policy/margin": masked_mean(beta * (won - lost), mask),
    "policy/chosen_shift": masked_mean(won, mask),
    "policy/rejected_shift": masked_mean(lost, mask),
  }
