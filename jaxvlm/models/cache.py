"""What a decode step reads: the prompt once, each completion's own past.

Keys and values are [N, G, S, K, d] per layer, as a pair; layers are a tuple
(unstacked) or a leading axis. Three blocks lie side by side and attention
joins them: the prompt's (G = 1, shared by its completions), the tokens that a
completion read in earlier segments, and those of the running segment, which
is the only one that is written while a loop runs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Prefix(NamedTuple):
  """What a decode loop reads and does not write.

  Attributes:
    prompt: keys and values [N, 1, S, K, d] of every layer.
    prompt_mask: bool[N, S] the prompt's real tokens.
    next_position: i32[N] position of the first completion token.
    own: keys and values [N, G, T, K, d] of what completions have read, or
      None where the running cache holds all of it.
    own_length: i32[N, G] how much of `own` counts; None without it.
  """

  prompt: Any
  prompt_mask: Array
  next_position: Array
  own: Any = None
  own_length: Array | None = None


def empty(prompt: Any, group: int, length: int) -> Any:
  """Returns zeroed keys and values [N, G, length, K, d] for every layer."""

  def like(k):  # [N, 1, S, K, d] or stacked [L, N, 1, S, K, d]
    *lead, n, _, _, heads, d = k.shape
    return jnp.zeros((*lead, n, group, length, heads, d), k.dtype)

  return jax.tree.map(like, prompt)


def take_prompts(prefix: Prefix, rows: Array) -> Prefix:
  """Returns the prefix of the prompts `rows` i32[R]; layers are unstacked."""
  return prefix._replace(
    prompt=jax.tree.map(lambda x: x[rows], prefix.prompt),
    prompt_mask=prefix.prompt_mask[rows],
    next_position=prefix.next_position[rows],
  )


def append(prefix: Prefix, cache: Any, lengths: Array) -> Prefix:
  """Returns the prefix with a segment's cache behind each one's own past.

  Args:
    prefix: with `own`; layers are unstacked.
    cache: keys and values [N, G, U, K, d] of the segment.
    lengths: i32[N, G] how many of the U columns were read.
  """
  n, g, width = jax.tree.leaves(cache)[0].shape[:3]
  row = jnp.arange(n)[:, None, None]
  lane = jnp.arange(g)[None, :, None]
  column = prefix.own_length[..., None] + jnp.arange(width)

  def write(own, new):
    return own.at[row, lane, column].set(new, mode="drop")

  return prefix._replace(
    own=jax.tree.map(write, prefix.own, cache),
    own_length=prefix.own_length + lengths,
  )
