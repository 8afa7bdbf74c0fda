"""The vision tower: full attention per picture, a merger, and DeepStack.

Patches stand in reading order, merge² of a merged token together. Every patch
gets a learned position from a square table that is stretched over its picture,
and turns with its row and column as well.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvlm.models import attention, layers, tower
from jaxvlm.models.qwen3_vl import partition
from jaxvlm.models.qwen3_vl.config import Config, VisionConfig
from jaxvlm.models.remat import Remat, rematerialize
from jaxvlm.models.tower import NORM_EPS, Seen
from jaxvlm.sharding import ROWS, constrain
from jaxvlm.typing import Prompts

Array = jax.Array


class VisionBlock(nn.Module):
  """One layer; patches see all patches of their picture."""

  config: VisionConfig
  dtype: Any = jnp.float32
  attend: attention.Attend = attention.attend

  def setup(self):
    c = self.config
    std = c.initializer_range
    self.norm1 = layers.LayerNorm(NORM_EPS)
    self.norm2 = layers.LayerNorm(NORM_EPS)
    self.qkv = layers.linear(3 * c.hidden_size, True, std, self.dtype)
    self.proj = layers.linear(c.hidden_size, True, std, self.dtype)
    self.fc1 = layers.linear(c.intermediate_size, True, std, self.dtype)
    self.fc2 = layers.linear(c.hidden_size, True, std, self.dtype)

  def __call__(self, x: Array, rope: layers.Rotary, segments: Array) -> Array:
    """Args: x [N, P, D], segments i32[N, P]."""
    x = constrain(x, ROWS)
    qkv = self.qkv(self.norm1(x))
    q, k, v = (
      y[:, None] for y in tower.heads(qkv, self.config.num_heads, rope)
    )
    seen = attention.Block(k, v, attention.Segments(segments))
    x = x + self.proj(self.attend(q, seen).reshape(x.shape))
    return x + self.fc2(nn.gelu(self.fc1(self.norm2(x)), approximate=True))


class PatchMerger(nn.Module):
  """Concatenates merge² neighbors and projects to the decoder's width.

  Attributes:
    config: the tower.
    norm_joined: whether the norm comes after the neighbors were joined
      (DeepStack's), or before.
    dtype: compute dtype.
  """

  config: VisionConfig
  norm_joined: bool
  dtype: Any = jnp.float32

  def setup(self):
    c = self.config
    std = c.initializer_range
    wide = c.hidden_size * c.spatial_merge_size**2
    self.norm = layers.LayerNorm(NORM_EPS)
    self.fc1 = layers.linear(wide, True, std, self.dtype)
    self.fc2 = layers.linear(c.out_hidden_size, True, std, self.dtype)

  def __call__(self, x: Array) -> Array:
    """Returns [N, M, D_out] of x [N, P, D]."""
    n, p, d = x.shape
    unit = self.config.spatial_merge_size**2
    if not self.norm_joined:
      x = self.norm(x)
    x = x.reshape(n, p // unit, unit * d)
    if self.norm_joined:
      x = self.norm(x)
    return self.fc2(nn.gelu(self.fc1(x), approximate=False))


def init(config: VisionConfig, key: Array) -> Any:
  """Returns random parameters of the tower, blocks and mergers stacked."""
  keys = jax.random.split(key, 5)
  std, width = config.initializer_range, config.hidden_size
  merge = config.spatial_merge_size**2
  x = jnp.zeros((1, merge, width))
  rope = layers.rotary(
    tower.rope_angles(config, jnp.zeros((1, merge, 2), jnp.int32))
  )
  segments = jnp.zeros((1, merge), jnp.int32)
  values = 3 * config.temporal_patch_size * config.patch_size**2
  project = layers.linear(width, True, std, jnp.float32)

  def block(key):
    return VisionBlock(config).init(key, x, rope, segments)["params"]

  def merger(key, norm_joined):
    return PatchMerger(config, norm_joined).init(key, x)["params"]

  features = len(config.deepstack_visual_indexes)
  table = (config.num_position_embeddings, width)
  return {
    "patch_embed": project.init(keys[0], jnp.zeros((1, values)))["params"],
    "pos_embed": {"table": std * jax.random.normal(keys[1], table)},
    "blocks": jax.vmap(block)(jax.random.split(keys[2], config.depth)),
    "merger": merger(keys[3], False),
    "deepstack": jax.vmap(lambda key: merger(key, True))(
      jax.random.split(keys[4], features)
    ),
  }


def table_positions(
  config: VisionConfig, table: Array, segments: Array, positions: Array
) -> Array:
  """Returns the learned positions f32[N, P, D], bilinear between entries.

    (row, column)·(side − 1) / (rows − 1, columns − 1): the corners of the
    table lie on the corners of the picture.

  transformers' `get_vision_interpolation_indices_and_weights`.

  Args:
    config: the tower.
    table: [side², D].
    segments: i32[N, P] which picture, -1 for empty slots.
    positions: i32[N, P, 2] (row, column) of the patch.
  """
  side = config.table_side
  together = segments[:, :, None] == segments[:, None, :]
  last = [  # row and column of the picture's last patch
    jnp.where(together, positions[:, None, :, axis], 0).max(-1)
    for axis in (0, 1)
  ]
  last = jnp.stack(last, axis=-1)
  at = positions.astype(jnp.float32) * (side - 1) / jnp.maximum(last, 1)
  low = jnp.floor(at)
  share = at - low
  low = low.astype(jnp.int32)
  high = jnp.minimum(low + 1, side - 1)
  total = jnp.zeros((), jnp.float32)
  for row, row_share in (
    (low[..., 0], 1 - share[..., 0]),
    (high[..., 0], share[..., 0]),
  ):
    for column, column_share in (
      (low[..., 1], 1 - share[..., 1]),
      (high[..., 1], share[..., 1]),
    ):
      weight = (row_share * column_share)[..., None]
      total += weight * table[row * side + column].astype(jnp.float32)
  return total


def encode(
  config: Config,
  params: Any,
  prompts: Prompts,
  *,
  dtype: Any = jnp.float32,
  remat: Remat = Remat.NONE,
  attend: attention.Attend = attention.attend,
) -> Seen:
  """Returns what the decoder gets of the pictures.

  Args:
    config: of the whole model.
    params: tree from `init` or a checkpoint.
    prompts: patches in reading order.
    dtype: compute dtype.
    remat: what a block keeps for its backward pass.
    attend: attention over whole rows.
  """
  c = config.vision
  segments, positions = prompts.patch_segments, prompts.patch_positions
  project = layers.linear(c.hidden_size, True, c.initializer_range, dtype)
  weights = partition.patch_embed(params["patch_embed"], dtype)
  x = project.apply({"params": weights}, prompts.patches)
  table = partition.pos_embed(params["pos_embed"], dtype)["table"]
  x += table_positions(c, table, segments, positions).astype(dtype)
  rope = layers.rotary(tower.rope_angles(c, positions))
  block = VisionBlock(c, dtype, attend)

  def one(x, weights):
    weights = partition.block(weights, dtype)
    return block.apply({"params": weights}, x, rope, segments)

  one = rematerialize(one, remat)

  def body(carry, weights, place):
    x, kept = carry
    x = one(x, weights)
    kept = jax.lax.dynamic_update_index_in_dim(kept, x, place, 0)
    return (x, kept), None

  # Outputs of DeepStack's layers go to places of their own, all others to the
  # last one, which nobody reads: nothing is kept of every layer.
  taken = c.deepstack_visual_indexes
  places = [
    taken.index(i) if i in taken else len(taken) for i in range(c.depth)
  ]
  blocks = params["blocks"]
  places = tuple(places) if isinstance(blocks, tuple) else jnp.array(places)
  kept = constrain(jnp.zeros((len(taken) + 1, *x.shape), dtype), None, ROWS)
  (x, kept), _ = layers.over_layers(body, (x, kept), blocks, places)

  def merge(carry, weights, x):
    weights = partition.deepstack(weights, dtype)
    merger = PatchMerger(c, True, dtype)
    return carry, merger.apply({"params": weights}, x)

  _, features = layers.over_layers(
    rematerialize(merge, remat), None, params["deepstack"], kept[:-1]
  )
  merger = PatchMerger(c, False, dtype)
  weights = partition.merger(params["merger"], dtype)
  return Seen(x, merger.apply({"params": weights}, x), features)
