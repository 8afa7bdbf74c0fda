"""Objectives as pure functions: arrays in, (f32 scalar, metrics) out.

No model, no config, no framework: importing this room imports jax and
`jaxvlm.metrics`, nothing else. Weights and normalizers may come from outside,
so that the losses of micro-batches add up to the loss of the whole batch.
"""

from jaxvlm.losses.advantages import group_advantages, leave_one_out_advantages
from jaxvlm.losses.dpo import (
  cooling_weight,
  cw_dpo_loss,
  dpo_loss,
  focal_dpo_loss,
  hard_negatives,
  sequence_logprobs,
)
from jaxvlm.losses.grpo import (
  constant_length,
  grpo_loss,
  sequence_mean,
  token_mean,
)
from jaxvlm.losses.opd import opd_loss, opd_policy_gradient_loss
from jaxvlm.losses.sft import entropy_bonus, sft_c_loss, sft_loss

__all__ = [
  "constant_length",
  "cooling_weight",
  "cw_dpo_loss",
  "dpo_loss",
  "entropy_bonus",
  "focal_dpo_loss",
  "group_advantages",
  "grpo_loss",
  "hard_negatives",
  "leave_one_out_advantages",
  "opd_loss",
  "opd_policy_gradient_loss",
  "sequence_logprobs",
  "sequence_mean",
  "sft_c_loss",
  "sft_loss",
  "token_mean",
]
