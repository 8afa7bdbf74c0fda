"""From prompts to what an update needs: sample, decode, reward, compare."""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from jaxvlm import losses
from jaxvlm.data.rows import HostBatch
from jaxvlm.rollout.generate import Generate
from jaxvlm.sampling import Samples
from jaxvlm.train.objectives import Experience
from jaxvlm.typing import Batch, Params

Reward = Callable[[str, str], Mapping[str, float]]


def sample(
  generate: Generate, params: Params, host: HostBatch, key: jax.Array
) -> tuple[Batch, Samples]:
  """Returns the policy's completions of a batch of prompts."""
  prompt_ids = np.arange(len(host.rows), dtype=np.int32)
  samples = generate(params, host.batch.prompts, key, prompt_ids)
  return Batch(host.batch.prompts, samples.tokens, samples.mask), samples


def grade(
  samples: Samples,
  host: HostBatch,
  *,
  decode: Callable[[Sequence[int]], str],
  reward: Reward,
) -> dict[str, np.ndarray]:
  """Returns f32[N, G] of every part of the reward, by name."""
  tokens, mask = jax.device_get((samples.tokens, samples.mask))
  n, g, _ = tokens.shape
  graded = [
    [
      reward(decode(tokens[i, j][mask[i, j]].tolist()), host.rows[i].answer)
      for j in range(g)
    ]
    for i in range(n)
  ]
  return {
    name: np.array([[float(r[name]) for r in row] for row in graded], "f4")
    for name in graded[0][0]
  }


def group_experience(
  batch: Batch,
  samples: Samples,
  rewards: np.ndarray,
  *,
  normalize_std: bool = True,
) -> tuple[Experience, dict[str, float]]:
  """Returns the experience of a GRPO step and what to log of it.

  Args:
    batch: prompts and completions.
    samples: the same completions with their statistics.
    rewards: f32[N, G].
    normalize_std: divide advantages by the group's standard deviation.

  Raises:
    ValueError: a group of one, which has no group to compare with.
  """
  if rewards.shape[1] < 2:
    raise ValueError(
      f"group size is {rewards.shape[1]}, expected at least 2: GRPO compares"
      " completions of one prompt; raise --grpo.group"
    )
  advantages = losses.group_advantages(rewards, normalize_std=normalize_std)
  flat = np.ptp(rewards, axis=1) == 0
  metrics = {
    "reward/mean": float(rewards.mean()),
    "reward/degenerate_groups": float(flat.mean()),
  }
  return Experience(batch, samples.logprobs, advantages), metrics


def rollout_metrics(samples: Samples) -> dict[str, float]:
  """Returns token means over the completions of one rollout."""
  s = jax.device_get(samples)
  total = max(int(s.mask.sum()), 1)
  return {
    "batch/tokens": float(total),
    "rollout/entropy": float(s.entropies.sum() / total),
    "rollout/neg_logprob": float(-s.logprobs.sum() / total),
    "rollout/top1": float(s.top1.sum() / total),
    "rollout/length": float(s.mask.sum(-1).mean()),
    "rollout/finished": float(s.finished.mean()),
  }
