"""From prompts to what an update needs: sample, decode, reward, compare.

With a mesh, arrays span all devices of all processes. Every process loads,
decodes and grades the rows that its own devices hold; the rewards, a few
numbers a prompt, are then known to all of them.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvlm import distributed, losses, sharding
from jaxvlm.data.rows import HostBatch
from jaxvlm.rollout.generate import Generate
from jaxvlm.sampling import Samples
from jaxvlm.tasks import Task, score
from jaxvlm.train.objectives import Experience
from jaxvlm.train.step import split
from jaxvlm.typing import Batch, Params, PyTree


def places(batch_size: int, mesh: Mesh | None) -> np.ndarray:
  """Returns which rows of every batch this process loads, ascending i64[n]."""
  if mesh is None:
    return np.arange(batch_size)
  return sharding.local_rows(mesh, batch_size)


def sample(
  generate: Generate,
  params: Params,
  host: HostBatch,
  key: jax.Array,
  mesh: Mesh | None = None,
) -> tuple[Batch, Samples]:
  """Returns the policy's completions of a batch of prompts.

  Args:
    generate: the sampler.
    params: the policy.
    host: the prompts, with a mesh on its devices (`sharding.shard_batch`).
    key: of the step.
    mesh: where the arrays lie; None takes one device.
  """
  prompts = host.batch.prompts
  prompt_ids = np.arange(len(prompts.tokens), dtype=np.int32)
  if mesh is not None:
    prompt_ids = _spread(prompt_ids, mesh)
  samples = generate(params, prompts, key, prompt_ids)
  if mesh is not None:
    rows = NamedSharding(mesh, PartitionSpec(sharding.ROWS))
    # `slot_steps` is a count, and the same everywhere.
    samples = jax.tree.map(
      lambda x: jax.device_put(x, rows) if np.ndim(x) else x, samples
    )
  return Batch(prompts, samples.tokens, samples.mask), samples


def grade(
  samples: Samples,
  host: HostBatch,
  *,
  decode: Callable[[Sequence[int]], str],
  task: Task,
  mesh: Mesh | None = None,
) -> dict[str, np.ndarray]:
  """Returns f32[N, G] of every score of the task, by name.

  Each process grades the completions of its own rows, as one batch; all N come
  back.

  Raises:
    ValueError: as `jaxvlm.tasks.score`.
  """
  tokens, mask = own_rows(samples.tokens), own_rows(samples.mask)
  n, g, _ = tokens.shape
  texts = [
    decode(tokens[i, j][mask[i, j]].tolist())
    for i in range(n)
    for j in range(g)
  ]
  found = score(task, texts, [row for row in host.rows for _ in range(g)])
  own = {name: values.reshape(n, g) for name, values in found.items()}
  if mesh is None:
    return own
  return distributed.gather(sharding.shard_batch(mesh, own))


@functools.partial(jax.jit, static_argnums=1)
def drawn_by_the_first(mask: jax.Array, minibatches: int) -> jax.Array:
  """Returns which tokens are of the policy that trains on them: bool[N, G, T].

  Those of the first of several minibatches (`train.step.split`). The later ones
  meet a policy that has moved on, so that trainer and sampler differ by more
  than rounding.

  Args:
    mask: bool[N, G, T] tokens of the sampler's policy.
    minibatches: M optimizer steps on the batch.
  """
  rows = jnp.arange(mask.shape[0])
  first = jnp.isin(rows, split(rows, minibatches)[0])
  return mask & first[:, None, None]


def group_experience(
  batch: Batch,
  samples: Samples,
  rewards: np.ndarray,
  *,
  normalize_std: bool = True,
  drop_degenerate: bool = False,
  mask_overlong: bool = False,
  mesh: Mesh | None = None,
) -> tuple[Experience, dict[str, float]]:
  """Returns the experience of a GRPO step and what to log of it.

  The last two switches are DAPO's, arXiv:2503.14476, Sections 3.2 and 3.4; what
  they leave out counts in no token mean. DAPO samples again until a batch is
  full, which costs rollouts and static shapes: here it is smaller.

  Args:
    batch: prompts and completions.
    samples: the same completions with their statistics.
    rewards: f32[N, G] of all processes.
    normalize_std: divide advantages by the group's standard deviation.
    drop_degenerate: leave out groups whose rewards are all equal (dynamic
      sampling).
    mask_overlong: leave out completions that were cut off at their longest
      (overlong filtering).
    mesh: where the arrays lie; None takes one device.

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
  kept = np.broadcast_to(~(flat & drop_degenerate)[:, None], rewards.shape)
  if mesh is not None:
    advantages, kept = _spread((np.asarray(advantages), kept), mesh)
  if mask_overlong:
    kept = kept & samples.finished
  if drop_degenerate or mask_overlong:
    batch = batch._replace(mask=_of_kept(batch.mask, kept))
  metrics = {
    "reward/mean": float(rewards.mean()),
    "reward/degenerate_groups": float(flat.mean()),
  }
  return Experience(batch, samples.logprobs, advantages), metrics


@jax.jit
def _of_kept(mask: jax.Array, kept: jax.Array) -> jax.Array:
  return mask & kept[..., None]


def rollout_metrics(
  samples: Samples, drawn: jax.Array | None = None
) -> dict[str, float]:
  """Returns token means over the completions of one rollout.

  Args:
    samples: the completions.
    drawn: i32[] tokens that came of the slot-steps, where completions go on
      over several rollouts (`jaxvlm.train.carry`); None: those of `samples`.
  """
  s = {k: float(v) for k, v in jax.device_get(_sums(samples)).items()}
  total = max(s["tokens"], 1.0)
  return {
    "batch/tokens": total,
    "rollout/entropy": s["entropies"] / total,
    "rollout/neg_logprob": -s["logprobs"] / total,
    "rollout/top1": s["top1"] / total,
    "rollout/length": s["tokens"] / samples.finished.size,
    "rollout/finished": s["finished"] / samples.finished.size,
    "rollout/useful": (total if drawn is None else float(drawn))
    / max(s["slot_steps"], 1.0),
  }


def count_tokens(batch: Batch) -> float:
  """Returns how many completion tokens of all processes count."""
  return float(jnp.sum(batch.mask))


def everywhere(generate: Generate, mesh: Mesh | None) -> Generate:
  """Returns `generate` for evaluations: whole NumPy arrays in and out.

  Every process gives the same prompts and gets all completions; the devices
  share the work.
  """
  if mesh is None:
    return generate

  def whole(params, prompts, key, prompt_ids):
    prompts, prompt_ids = _spread((prompts, np.asarray(prompt_ids)), mesh)
    samples = generate(params, prompts, key, prompt_ids)
    return distributed.gather(samples)

  return whole


@jax.jit
def _sums(samples: Samples) -> dict[str, jax.Array]:
  return {
    "tokens": jnp.sum(samples.mask.astype(jnp.float32)),
    "finished": jnp.sum(samples.finished.astype(jnp.float32)),
    "entropies": jnp.sum(samples.entropies),
    "logprobs": jnp.sum(samples.logprobs),
    "top1": jnp.sum(samples.top1),
    "slot_steps": jnp.asarray(samples.slot_steps, jnp.float32),
  }


def _spread(tree: PyTree, mesh: Mesh) -> PyTree:
  """Returns global arrays of host arrays that every process has whole."""

  def one(x, target):
    return jax.make_array_from_callback(x.shape, target, lambda part: x[part])

  return jax.tree.map(one, tree, sharding.batch_sharding(mesh, tree))


def own_rows(x: jax.Array) -> np.ndarray:
  """Returns the rows that this process's devices hold, in order."""
  if not isinstance(x, jax.Array) or x.is_fully_addressable:
    return jax.device_get(x)
  parts = {
    shard.index[0].start or 0: shard.data for shard in x.addressable_shards
  }
  return np.concatenate([np.asarray(parts[first]) for first in sorted(parts)])
