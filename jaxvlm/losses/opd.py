"""On-policy distillation: the student's own samples, the teacher's opinion."""

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
  clipped_objective,
  keep,
  policy_ratio,
  weighted_mean,
)
from jaxvlm.metrics import Mean, masked_mean


def opd_loss(
  kl: Array,
  mask: Array,
  *,
  normalizer: Array | float | None = None,
) -> tuple[Array, dict[str, Mean]]:
  """Token mean of an exact divergence on student samples.

  L = (1/Z) Σ_t D(π_θ(·|s_t), π_T(·|s_t))

  GKD, arXiv:2306.13649, Eq. 4, but for the mean: over the batch's tokens, as
  the published curves per token are, not over responses. Which D is the
  caller's choice of a field of `TokenStats`: `reverse_kl` (OPD),
  `forward_kl`, `jsd`, `top_k_kl`. Samples are data here: no gradient flows
  through the choice of the states s_t.

  Args:
    kl: f32[..., T] divergence per token, nats, differentiable.
    mask: bool[..., T] the tokens that the student sampled.
    normalizer: f32[] Z; None counts the mask.

  Returns:
    (f32[] loss, metrics): `loss/opd`.

  Raises:
    ValueError: shapes that differ, a mask that is not boolean.
  """
  check_same_shape(kl=kl, mask=mask)
  check_mask("mask", mask)
  kept = keep(kl, mask)
  loss = weighted_mean(kept, mask.astype(jnp.float32), normalizer)
  return loss, {"loss/opd": masked_mean(kept, mask)}


def opd_policy_gradient_loss(
  logprobs: Array,
  old_logprobs: Array,
  teacher_logprobs: Array,
  mask: Array,
  *,
  fixed_advantage: Array | float | None = None,
  clip_low: float | None = None,
  clip_high: float | None = None,
  max_advantage: float | None = None,
  normalizer: Array | float | None = None,
) -> tuple[Array, dict[str, Mean]]:
  """Reverse KL from sampled tokens only, as a policy gradient.

  L = −(1/Z) Σ_t ρ_t·A_t,  ρ_t = π_θ(y_t)/π_old(y_t),
  A_t = sg[log π_T(y_t) − log π_θ(y_t)]

  Importance-sampled k1 as in the tinker cookbook's distillation recipe. For
  y_t ~ π_old the expected gradient is the exact gradient of KL(π_θ‖π_T). The
  sampled log-ratio itself is never differentiated: its gradient would not
  know the teacher.

  Args:
    logprobs: f32[..., T] log π_θ(y_t), nats.
    old_logprobs: f32[..., T] log π_old(y_t) of the sampling policy.
    teacher_logprobs: f32[..., T] log π_T(y_t).
    mask: bool[..., T] the tokens that the student sampled.
    fixed_advantage: replaces every A_t by this number. A negative one is the
      control that asks what the teacher adds to mere unlearning.
    clip_low, clip_high: clip ρ to [1−low, 1+high] as in PPO; both or none.
    max_advantage: clips A_t to ±max_advantage, nats; biased, off by default.
    normalizer: f32[] Z; None counts the mask.

  Returns:
    (f32[] loss, metrics): `loss/opd_policy_gradient`, `policy/kl_teacher_k1`
    (one-sample estimate), `policy/ratio`.

  Raises:
    ValueError: shapes that differ, a mask that is not boolean, one clip
      without the other.
  """
  check_same_shape(
    logprobs=logprobs,
    old_logprobs=old_logprobs,
    teacher_logprobs=teacher_logprobs,
    mask=mask,
  )
  check_mask("mask", mask)
  check_positive(max_advantage=max_advantage)
  check_range(0, 1, clip_low=clip_low)
  check_range(0, float("inf"), clip_high=clip_high)
  if (clip_low is None) != (clip_high is None):
    raise ValueError(
      f"clip_low is {clip_low} and clip_high is {clip_high}: expected both or "
      "neither"
    )
  logprobs = keep(logprobs, mask)
  old = jax.lax.stop_gradient(keep(old_logprobs, mask))
  teacher = jax.lax.stop_gradient(keep(teacher_logprobs, mask))
  gap = jax.lax.stop_gradient(logprobs) - teacher
  advantages = -gap
  if max_advantage is not None:
    advantages = jnp.clip(advantages, -max_advantage, max_advantage)
  if fixed_advantage is not None:
    advantages = jnp.full_like(gap, fixed_advantage)
  ratio = policy_ratio(logprobs - old)
  objective = ratio * advantages
  if clip_low is not None and clip_high is not None:
    objective, _ = clipped_objective(ratio, advantages, clip_low, clip_high)
  losses = -keep(objective, mask)
  loss = weighted_mean(losses, mask.astype(jnp.float32), normalizer)
  return loss, {
    "loss/opd_policy_gradient": masked_mean(losses, mask),
    "policy/kl_teacher_k1": masked_mean(gap, mask),
    "policy/ratio": masked_mean(ratio, mask),
  }
