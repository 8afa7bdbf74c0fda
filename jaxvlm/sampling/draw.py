"""One token per completion, with the exact statistics of its distribution.

Log-probability, entropy and largest probability come from the very logits the
token is drawn from, over the whole vocabulary at the sampling temperature,
before top-k, top-p and min-p.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxvlm.sampling.logits import Sampling, truncate


class Draw(NamedTuple):
  """One token of every completion; fields as in `Samples`, [N, G] each."""

  tokens: Array
  logprobs: Array
  entropies: Array
  top1: Array
  sampling_logprobs: Array


def root_key(seed: int) -> Array:
  """Returns `jax.random.key(seed)` for a seed that has a key of its own.

  Raises:
    ValueError: outside 0 … 2³² − 1. JAX takes the lower 32 bits of a seed, so
      that 2³² would draw what 0 draws, and −1 what 2³² − 1 does.
  """
  if not 0 <= seed < 2**32:
    raise ValueError(
      f"seed is {seed}, expected 0 … {2**32 - 1}: a seed has 32 bits"
    )
  return jax.random.key(seed)


def completion_keys(key: Array, prompt_ids: Array, group: int) -> Array:
  """Returns keys [N, G] folded from prompt id and sample number.

  Args:
    key: a typed key of the step, or one key [N] per prompt.
    prompt_ids: i32[N] ids that are unique within the step.
    group: G.
  """
  fold = jax.random.fold_in
  per_prompt = jax.vmap(fold, in_axes=(0 if key.ndim else None, 0))
  per_sample = jax.vmap(jax.vmap(fold, in_axes=(None, 0)), in_axes=(0, None))
  return per_sample(per_prompt(key, prompt_ids), jnp.arange(group))


def draw(
  keys: Array, logits: Array, positions: Array, sampling: Sampling
) -> Draw:
  """Draws one token per completion and measures the distribution.

    log p_v = x_v − m − log Z,  H = log Z − Σ_v e_v (x_v − m) / Z,  max p = 1/Z

  with x the logits over the temperature, m their maximum, e = exp(x − m) and
  Z = Σ e: one pass over the vocabulary serves the draw and the statistics.

  Args:
    keys: typed keys [N, G], one per completion.
    logits: f32[N, G, V] as the model gives them.
    positions: i32[N, G] of the token in its completion; folded into the key.
    sampling: the rules.
  """
  greedy = sampling.temperature == 0
  scaled = logits if greedy else logits / sampling.temperature
  shifted = scaled - jnp.max(scaled, axis=-1, keepdims=True)
  mass = jnp.exp(shifted)
  total = mass.sum(-1)
  # Where the mass underflows to 0, the logit may be −inf: 0 · −inf is NaN.
  slope = jnp.sum(jnp.where(mass > 0, mass * shifted, 0.0), -1)
  truncated = sampling.truncates and not greedy
  kept = jnp.exp(truncate(shifted, sampling)) if truncated else mass
  if greedy:
    tokens = jnp.argmax(scaled, axis=-1)
  else:
    fold = jax.vmap(jax.vmap(jax.random.fold_in))
    uniform = jax.vmap(jax.vmap(jax.random.uniform))(fold(keys, positions))
    tokens = invert(kept, uniform)
  at_token = jnp.take_along_axis(shifted, tokens[..., None], axis=-1)[..., 0]
  logprobs = at_token - jnp.log(total)
  return Draw(
    tokens=tokens.astype(jnp.int32),
    logprobs=logprobs,
    entropies=jnp.log(total) - slope / total,
    top1=1.0 / total,
    sampling_logprobs=(
      at_token - jnp.log(kept.sum(-1)) if truncated else logprobs
    ),
  )


def invert(mass: Array, uniform: Array) -> Array:
  """Returns the index at which the cumulated mass passes `uniform` · total.

  One random number a token instead of one a word (Gumbel noise), and no sum
  over the whole vocabulary is carried along: the words are cut into √V
  blocks, the block is found first, then the word in it.

  Args:
    mass: f32[..., V] nonnegative, not all 0; a word of mass 0 is never taken.
    uniform: f32[...] in [0, 1).
  """
  v = mass.shape[-1]
  width = max(int(v**0.5), 1)
  blocks = jnp.pad(mass, [(0, 0)] * (mass.ndim - 1) + [(0, -v % width)])
  blocks = blocks.reshape(*mass.shape[:-1], -1, width)
  sums = blocks.sum(-1)
  block, rest = _passes(sums, uniform * sums.sum(-1))
  words = jnp.take_along_axis(blocks, block[..., None, None], axis=-2)
  word, _ = _passes(words[..., 0, :], rest)
  return block * width + word


def _passes(mass: Array, target: Array) -> tuple[Array, Array]:
  """Returns (first index whose cumulated mass exceeds target, what is left).

  Rounding can leave the target at the very end; then the last index with any
  mass is taken.
  """
  edges = jnp.cumsum(mass, axis=-1)
  count = mass.shape[-1]
  last = count - 1 - jnp.argmax(mass[..., ::-1] > 0, axis=-1)
  index = jnp.minimum(jnp.sum(edges <= target[..., None], axis=-1), last)
  before = jnp.where(jnp.arange(count) < index[..., None], mass, 0.0).sum(-1)
  return index, jnp.maximum(target - before, 0.0)  # rounding may go below
