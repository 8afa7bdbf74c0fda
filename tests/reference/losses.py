"""Objectives in float64 NumPy, token by token, from the papers' equations.

Slow and literal on purpose: no broadcasting, no masking tricks. A token that
does not count is never looked at.
"""

import math

import numpy as np


def sigmoid(x):
  if x >= 0:
    return 1.0 / (1.0 + math.exp(-x))
  return math.exp(x) / (1.0 + math.exp(x))


def counted(mask):
  """Index tuples of the tokens that count."""
  return [tuple(i) for i in np.argwhere(mask)]


def sft(logprobs, mask, label_smoothing=0.0, mean_vocab_logprobs=None):
  """arXiv:1512.00567, Section 7."""
  tokens = counted(mask)
  total = 0.0
  for i in tokens:
    uniform = mean_vocab_logprobs[i] if label_smoothing else 0.0
    total -= (1 - label_smoothing) * logprobs[i] + label_smoothing * uniform
  return total / len(tokens) if tokens else 0.0


def sft_c(
  positive_logprobs,
  positive_mask,
  negative_logprobs,
  negative_mask,
  floor,
  weight,
):
  """arXiv:2510.11978, Eq. 4.2, token means over the batch."""
  loss = sft(positive_logprobs, positive_mask)
  if not counted(negative_mask):
    return loss
  return loss + weight * max(0.0, floor - sft(negative_logprobs, negative_mask))


def entropy_bonus(entropies, mask, coef):
  """arXiv:1602.01783, Section 4."""
  return coef * sft(entropies, mask)


def opd(kl, mask):
  """arXiv:2306.13649, Eq. 4: the token mean of a divergence."""
  return -sft(kl, mask)


def opd_policy_gradient(
  logprobs,
  old_logprobs,
  teacher_logprobs,
  mask,
  policy_logprobs,
  fixed_advantage=None,
  clip_low=None,
  clip_high=None,
  max_advantage=None,
):
  """Importance-sampled k1; `policy_logprobs` stands inside sg[·]."""
  tokens = counted(mask)
  total = 0.0
  for i in tokens:
    ratio = math.exp(logprobs[i] - old_logprobs[i])
    advantage = teacher_logprobs[i] - policy_logprobs[i]
    if max_advantage is not None:
      advantage = min(max(advantage, -max_advantage), max_advantage)
    if fixed_advantage is not None:
      advantage = fixed_advantage
    objective = ratio * advantage
    if clip_low is not None:
      clipped = min(max(ratio, 1 - clip_low), 1 + clip_high)
      objective = min(objective, clipped * advantage)
    total -= objective
  return total / len(tokens) if tokens else 0.0


def token_mean(mask):
  """arXiv:2503.14476, Eq. 8: 1 / Σ|o_i|."""
  return {i: 1.0 / len(counted(mask)) for i in counted(mask)}


def sequence_mean(mask):
  """arXiv:2402.03300, Eq. 3: (1/G)·(1/|o_i|)."""
  rows = [row for row in range(len(mask)) if mask[row].any()]
  return {i: 1.0 / (len(rows) * int(mask[i[0]].sum())) for i in counted(mask)}


def constant_length(mask, length):
  """arXiv:2503.20783, Section 3: (1/G)·(1/L)."""
  rows = [row for row in range(len(mask)) if mask[row].any()]
  return {i: 1.0 / (len(rows) * length) for i in counted(mask)}


def grpo(
  logprobs,
  old_logprobs,
  advantages,
  mask,
  weights,
  clip_low=0.2,
  clip_high=0.2,
  dual_clip=None,
  ref_logprobs=None,
  kl_coef=0.0,
  sequence_ratio=False,
  sampling_logprobs=None,
  max_importance_weight=2.0,
  entropies=None,
  entropy_coef=0.0,
):
  """arXiv:2402.03300, Eq. 3 and 4, and the variants' own equations."""
  objective = 0.0
  for i in counted(mask):
    row = i[0]
    if sequence_ratio:
      gaps = [
        logprobs[j] - old_logprobs[j] for j in counted(mask) if j[0] == row
      ]
      ratio = math.exp(sum(gaps) / len(gaps))
    else:
      ratio = math.exp(logprobs[i] - old_logprobs[i])
    advantage = (
      advantages[i] if advantages.ndim == mask.ndim else (advantages[row])
    )
    clipped = min(max(ratio, 1 - clip_low), 1 + clip_high)
    term = min(ratio * advantage, clipped * advantage)
    if dual_clip is not None and advantage < 0:
      term = max(term, dual_clip * advantage)
    if sampling_logprobs is not None:
      importance = math.exp(old_logprobs[i] - sampling_logprobs[i])
      term *= min(importance, max_importance_weight)
    if ref_logprobs is not None:
      gap = ref_logprobs[i] - logprobs[i]
      term -= kl_coef * (math.exp(gap) - gap - 1.0)
    if entropies is not None:
      term += entropy_coef * entropies[i]
    objective += weights[i] * term
  return -objective


def preference(
  chosen_logprobs,
  rejected_logprobs,
  ref_chosen_logprobs,
  ref_rejected_logprobs,
  mask,
  beta,
  cooling=None,
  gamma=0.0,
):
  """DPO (arXiv:2305.18290, Eq. 7), CW-DPO (arXiv:2510.11978, Eq. 4.5) with
  `cooling` weights, and the focal form (arXiv:1708.02002, Eq. 4)."""
  pairs = counted(mask)
  total = 0.0
  for i in pairs:
    won = chosen_logprobs[i] - ref_chosen_logprobs[i]
    lost = rejected_logprobs[i] - ref_rejected_logprobs[i]
    weight = 1.0 if cooling is None else cooling[i]
    a = sigmoid(beta * (won - weight * lost))
    total -= (1.0 - a) ** gamma * math.log(a)
  return total / len(pairs) if pairs else 0.0


def cooling_weights(mean_logprobs, floor, tau):
  """arXiv:2510.11978, the cooling weight."""
  return np.array([sigmoid((x - floor) / tau) for x in mean_logprobs])


def group_advantages(rewards, normalize_std=True, epsilon=1e-6):
  """arXiv:2402.03300, Section 4.1.2, sample deviation."""
  out = np.zeros(rewards.shape)
  for n, row in enumerate(rewards):
    mean = sum(row) / len(row)
    spread = math.sqrt(sum((r - mean) ** 2 for r in row) / (len(row) - 1))
    for g, r in enumerate(row):
      out[n, g] = r - mean
      if normalize_std:
        out[n, g] /= spread + epsilon
  return out


def leave_one_out(rewards):
  """arXiv:2402.14740: the mean of the others as baseline."""
  out = np.zeros(rewards.shape)
  for n, row in enumerate(rewards):
    for g, r in enumerate(row):
      others = [x for i, x in enumerate(row) if i != g]
      out[n, g] = r - sum(others) / len(others)
  return out
