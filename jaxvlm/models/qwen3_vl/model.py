"""Qwen3-VL: the common decoder with pictures in its stream and DeepStack."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvlm.models import attention, partition, rope, tower
from jaxvlm.models.decoder import Decoder, Embedded
from jaxvlm.models.qwen3_vl import vision
from jaxvlm.models.qwen3_vl.config import Config
from jaxvlm.models.remat import Remat
from jaxvlm.sharding import ROWS, constrain
from jaxvlm.typing import Params, Prompts

Array = jax.Array


def decoder(config: Config) -> Decoder:
  """Returns the decoder of one configuration."""
  return tower.decoder(config, angles=mrope_angles, embed=embed_prompts)


def init(config: Config, key: Array) -> Params:
  """Returns random parameters, normal(0, initializer_range), f32."""
  return tower.init(config, key, vision=vision.init)


def mrope_angles(config: Config, positions: Array) -> Array:
  """Returns M-RoPE angles f32[..., d/2] of positions i32[3, ...].

  The axes take turns, time, height, width, time …, until height and width
  have the frequencies of their section; the rest is time's: each axis has
  fast and slow ones.
  """
  axes = np.zeros(config.head_dim // 2, np.int32)
  for axis in (1, 2):
    axes[axis : 3 * config.mrope_section[axis] : 3] = axis
  turns = rope.frequencies(rope.Rope(config.rope_theta), config.head_dim)
  return rope.by_axis(rope.mrope_angles(positions, turns), axes)


def embed_prompts(
  config: Config,
  params: Params,
  prompts: Prompts,
  *,
  dtype: Any = jnp.float32,
  remat: Remat = Remat.NONE,
  attend: attention.Attend = attention.attend,
) -> Embedded:
  """Returns the decoder's input: text, merged image tokens, and features."""
  table = params["model"]["embed_tokens"]
  x = partition.embed(table, prompts.tokens, dtype)[:, None]
  if prompts.patches is None or prompts.patches.shape[1] == 0:
    return Embedded(x)  # a batch without a single picture
  seen = vision.encode(
    config.vision,
    params["visual"],
    prompts.patches,
    prompts.patch_segments,
    prompts.patch_positions,
    dtype=dtype,
    remat=remat,
    attend=attend,
  )
  slots = prompts.image_slots[:, None, :, None]

  def at_tokens(values: Array, otherwise: Array | float) -> Array:
    """Returns [N, 1, S, D] of image tokens [N, M, D], and what text has."""
    found = jnp.take_along_axis(values[:, None], jnp.maximum(slots, 0), axis=2)
    return jnp.where(slots >= 0, found, otherwise)

  gains = jax.vmap(lambda values: at_tokens(values, 0.0))(seen.features)
  return Embedded(at_tokens(seen.merged, x), constrain(gains, None, ROWS))
