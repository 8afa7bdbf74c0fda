"""The objectives in float64 torch, for its automatic differentiation.

Rows that do not count are cut out by boolean indexing before anything else.
"""

import torch
import torch.nn.functional as F


def sft(x, label_smoothing=0.0):
  keep = x["mask"]
  loss = -x["logprobs"][keep].mean()
  if label_smoothing:
    uniform = -x["mean_vocab_logprobs"][keep].mean()
    loss = (1 - label_smoothing) * loss + label_smoothing * uniform
  return loss


def sft_c(x, floor, weight):
  positive = -x["positive_logprobs"][x["positive_mask"]].mean()
  negative = -x["negative_logprobs"][x["negative_mask"]].mean()
  return positive + weight * F.relu(floor - negative)


def token_average(name, sign=1.0):
  return lambda x: sign * x[name][x["mask"]].mean()


def opd_policy_gradient(x, fixed_advantage=None, clip=None, max_advantage=None):
  keep = x["mask"]
  logprobs = x["logprobs"][keep]
  ratio = (logprobs - x["old_logprobs"][keep]).exp()
  advantage = (x["teacher_logprobs"][keep] - logprobs).detach()
  if max_advantage is not None:
    advantage = advantage.clamp(-max_advantage, max_advantage)
  if fixed_advantage is not None:
    advantage = torch.full_like(advantage, fixed_advantage)
  objective = ratio * advantage
  if clip is not None:
    clipped = ratio.clamp(1 - clip[0], 1 + clip[1])
    objective = torch.minimum(objective, clipped * advantage)
  return -objective.mean()


def grpo(
  x,
  reduce="token",
  clip=(0.2, 0.2),
  dual_clip=None,
  kl_coef=0.0,
  sequence_ratio=False,
  max_importance_weight=None,
  entropy_coef=0.0,
):
  rows = []
  for b in range(x["mask"].shape[0]):
    keep = x["mask"][b]
    if not keep.any():
      continue
    gap = (x["logprobs"] - x["old_logprobs"])[b][keep]
    if sequence_ratio:
      gap = gap.mean().expand(gap.shape)
    advantage = x["advantages"][b]
    ratio = gap.exp()
    clipped = ratio.clamp(1 - clip[0], 1 + clip[1])
    term = torch.minimum(ratio * advantage, clipped * advantage)
    if dual_clip is not None and advantage < 0:
      term = torch.maximum(term, dual_clip * advantage)
    if max_importance_weight is not None:
      drawn = x["old_logprobs"][b][keep] - x["sampling_logprobs"][b][keep]
      term = term * drawn.exp().clamp(max=max_importance_weight)
    if kl_coef:
      gap = x["ref_logprobs"][b][keep] - x["logprobs"][b][keep]
      term = term - kl_coef * (gap.exp() - gap - 1)
    if entropy_coef:
      term = term + entropy_coef * x["entropies"][b][keep]
    rows.append(term)
  if reduce == "token":
    return -torch.cat(rows).mean()
  if reduce == "sequence":
    return -torch.stack([row.mean() for row in rows]).mean()
  return -torch.stack([row.sum() / reduce for row in rows]).mean()


def preference(
  x, beta, floor=None, tau=None, differentiate_weight=False, gamma=0.0
):
  keep = x["mask"]
  won = (x["chosen_logprobs"] - x["ref_chosen_logprobs"])[keep]
  lost = (x["rejected_logprobs"] - x["ref_rejected_logprobs"])[keep]
  weight = 1.0
  if floor is not None:
    weight = torch.sigmoid((x["rejected_mean_logprobs"][keep] - floor) / tau)
    weight = weight if differentiate_weight else weight.detach()
  margin = beta * (won - weight * lost)
  focus = (1 - torch.sigmoid(margin)) ** gamma
  return -(focus * F.logsigmoid(margin)).mean()
