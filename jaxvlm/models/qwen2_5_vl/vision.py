"""The vision tower: windowed attention with a few full layers, and a merger.

Patches arrive in padded window order (`jaxvlm.data.layout`): windows are a
batch axis, not a mask over all pairs. With 8 × 8 patches in a window, a
picture of 4,096 patches costs 1/64 of the full attention in 28 of 32 layers.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvlm.models import attention, layers, tower
from jaxvlm.models.qwen2_5_vl import partition
from jaxvlm.models.qwen2_5_vl.config import Config, VisionConfig
from jaxvlm.models.remat import Remat, rematerialize
from jaxvlm.models.tower import NORM_EPS, Seen
from jaxvlm.sharding import ROWS, constrain
from jaxvlm.typing import Prompts

Array = jax.Array


class VisionBlock(nn.Module):
  """One layer; windows are a batch axis, small enough for plain attention."""

  config: VisionConfig
  dtype: Any = jnp.float32
  attend: attention.Attend = attention.attend

  def setup(self):
    c = self.config
    self.norm1 = layers.RMSNorm(NORM_EPS)
    self.norm2 = layers.RMSNorm(NORM_EPS)
    std = c.initializer_range
    self.qkv = layers.linear(3 * c.hidden_size, True, std, self.dtype)
    self.proj = layers.linear(c.hidden_size, True, std, self.dtype)
    self.mlp = layers.SwiGLU(
      c.hidden_size, c.intermediate_size, True, std, self.dtype
    )

  def __call__(
    self, x: Array, rope: layers.Rotary, segments: Array, full: Array, windows
  ) -> Array:
    """Args: x [N, P, D], segments i32[N, P], full bool[], windows static."""
    n, p, _ = x.shape
    x = constrain(x, ROWS)
    q, k, v = tower.heads(self.qkv(self.norm1(x)), self.config.num_heads, rope)

    def attended(attend, count, q, k, v, segments):
      """Attention inside each of `count` equal parts of the row."""
      q, k, v = (
        y.reshape(n * count, 1, p // count, *y.shape[2:]) for y in (q, k, v)
      )
      seen = attention.Segments(segments.reshape(n * count, p // count))
      return attend(q, attention.Block(k, v, seen)).reshape(n, p, -1)

    whole = functools.partial(attended, self.attend, 1)
    parts = functools.partial(attended, attention.plain, windows)
    if isinstance(full, bool):
      out = (whole if full else parts)(q, k, v, segments)
    else:
      out = jax.lax.cond(full, whole, parts, q, k, v, segments)
    x = x + self.proj(out)
    return x + self.mlp(self.norm2(x))


class PatchMerger(nn.Module):
  """Concatenates merge² neighbors and projects to the decoder's width."""

  config: VisionConfig
  dtype: Any = jnp.float32

  def setup(self):
    c = self.config
    wide = c.hidden_size * c.spatial_merge_size**2
    self.ln_q = layers.RMSNorm(NORM_EPS)
    self.fc1 = layers.linear(wide, True, c.initializer_range, self.dtype)
    self.fc2 = layers.linear(
      c.out_hidden_size, True, c.initializer_range, self.dtype
    )

  def __call__(self, x: Array) -> Array:
    n, p, d = x.shape
    unit = self.config.spatial_merge_size**2
    x = self.ln_q(x).reshape(n, p // unit, unit * d)
    return self.fc2(nn.gelu(self.fc1(x), approximate=False))


def init(config: VisionConfig, key: Array) -> Any:
  """Returns random parameters of the tower, blocks stacked by layer."""
  patch_key, block_key, merge_key = jax.random.split(key, 3)
  x = jnp.zeros((1, 4, config.hidden_size))
  rope = layers.rotary(
    tower.rope_angles(config, jnp.zeros((1, 4, 2), jnp.int32))
  )
  segments = jnp.zeros((1, 4), jnp.int32)
  merge = config.spatial_merge_size**2

  def block(key):
    return VisionBlock(config).init(key, x, rope, segments, False, 1)["params"]

  return {
    "patch_embed": {"kernel": _patch_kernel(config, patch_key)},
    "blocks": jax.vmap(block)(jax.random.split(block_key, config.depth)),
    "merger": PatchMerger(config).init(
      merge_key, jnp.zeros((1, merge, config.hidden_size))
    )["params"],
  }


def _patch_kernel(config: VisionConfig, key: Array) -> Array:
  """Returns a random patch projection [C, D].

  Pixels are not centered: normalized white paper is about 2 in every input.
  The scale keeps its projection near 1, so that blocks can add to it.
  """
  values = 3 * config.temporal_patch_size * config.patch_size**2
  std = min(config.initializer_range, 0.5 * values**-0.5)
  return std * jax.random.normal(key, (values, config.hidden_size))


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
    prompts: patches in padded window order, whole windows of them.
    dtype: compute dtype.
    remat: what a block keeps for its backward pass.
    attend: of the full layers.
  """
  c, p = config.vision, prompts.patches.shape[1]
  window_slots = config.layout.window_slots
  if p % window_slots:
    raise ValueError(
      f"patches have {p} slots, expected a multiple of the window's"
      f" {window_slots}: build them with jaxvlm.data.layout.arrange"
    )
  project = layers.linear(c.hidden_size, False, c.initializer_range, dtype)
  weights = partition.patch_embed(params["patch_embed"], dtype)
  x = project.apply({"params": weights}, prompts.patches)
  rope = layers.rotary(tower.rope_angles(c, prompts.patch_positions))
  block = VisionBlock(c, dtype, attend)
  windows = p // window_slots

  def body(x, weights, full):
    weights = partition.block(weights, dtype)
    args = (x, rope, prompts.patch_segments, full, windows)
    return block.apply({"params": weights}, *args), None

  is_full = tuple(i in c.fullatt_block_indexes for i in range(c.depth))
  blocks = params["blocks"]
  if isinstance(blocks, tuple):
    # Python bools: every unrolled block compiles its own pattern only.
    body = rematerialize(body, remat, static_argnums=(2,))
    x, _ = layers.over_layers(body, x, blocks, is_full)
  else:
    body = rematerialize(body, remat)
    x, _ = layers.over_layers(body, x, blocks, jnp.array(is_full))
  merger = PatchMerger(c, dtype)
  weights = partition.merger(params["merger"], dtype)
  return Seen(x, merger.apply({"params": weights}, x))
