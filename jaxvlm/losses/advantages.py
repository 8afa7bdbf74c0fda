"""Advantages of completions within their group."""

import jax.numpy as jnp
from jax import Array


def group_advantages(
  rewards: Array, *, normalize_std: bool = True, epsilon: float = 1e-6
) -> Array:
  """Reward relative to the group's, divided by its spread or not.

  A_i = (r_i − r̄) / (s + ε),  s² = Σ (r_i − r̄)² / (G−1)

  GRPO, arXiv:2402.03300, Section 4.1.2, with the sample deviation that its
  public implementations use; `normalize_std=False` is Dr. GRPO,
  arXiv:2503.20783. A group of equal rewards has advantage exactly 0.

  Args:
    rewards: f32[N, G], any unit.
    normalize_std: divides by s + ε.
    epsilon: ε, in the rewards' unit.

  Returns:
    f32[N, G], constant under differentiation when fed to a loss.

  Raises:
    ValueError: not two axes, or G = 1, where nothing can be compared.
  """
  centered = _centered(rewards)
  if not normalize_std:
    return centered
  variance = jnp.sum(centered**2, -1, keepdims=True) / (rewards.shape[-1] - 1)
  return centered / (jnp.sqrt(variance) + epsilon)


def leave_one_out_advantages(rewards: Array) -> Array:
  """Reward relative to the mean of the group's other members.

  A_i = r_i − (1/(G−1)) Σ_{j≠i} r_j = (G/(G−1))·(r_i − r̄)

  RLOO, arXiv:2402.14740, Section 2: an unbiased baseline.

  Args:
    rewards: f32[N, G], any unit.

  Returns:
    f32[N, G].

  Raises:
    ValueError: not two axes, or G = 1, where nothing can be compared.
  """
  group = rewards.shape[-1]
  return _centered(rewards) * (group / max(group - 1, 1))


def _centered(rewards: Array) -> Array:
  if rewards.ndim != 2 or rewards.shape[1] < 2:
    raise ValueError(
      f"rewards has shape {rewards.shape}, expected [N, G] with G >= 2 "
      "completions of each prompt to compare"
    )
  # Relative to the first member first: equal rewards cancel to exactly 0,
  # whatever the rounding of their mean.
  shifted = rewards.astype(jnp.float32) - rewards[:, :1].astype(jnp.float32)
  return shifted - jnp.mean(shifted, -1, keepdims=True)
