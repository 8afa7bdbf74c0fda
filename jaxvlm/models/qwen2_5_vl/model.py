"""Qwen2.5-VL: the common decoder with M-RoPE and pictures in its stream."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxvlm.models import attention, partition, rope, tower
from jaxvlm.models.decoder import Decoder, Embedded
from jaxvlm.models.qwen2_5_vl import vision
from jaxvlm.models.qwen2_5_vl.config import Config
from jaxvlm.models.remat import Remat
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

  Frequency i turns with the axis (time, height, width) whose section of
  `mrope_section` it falls into.
  """
  turns = rope.frequencies(rope.Rope(config.rope_theta), config.head_dim)
  angles = rope.mrope_angles(positions, turns)
  edges = (config.mrope_section[0], sum(config.mrope_section[:2]))
  axes = jnp.digitize(jnp.arange(config.head_dim // 2), jnp.array(edges))
  return rope.by_axis(angles, axes)


def embed_prompts(
  config: Config,
  params: Params,
  prompts: Prompts,
  *,
  dtype: Any = jnp.float32,
  remat: Remat = Remat.NONE,
  attend: attention.Attend = attention.attend,
) -> Embedded:
  """Returns the decoder's input: text and merged image tokens."""
  table = params["model"]["embed_tokens"]
  x = partition.embed(table, prompts.tokens, dtype)
  if prompts.patches is None or prompts.patches.shape[1] == 0:
    return Embedded(x[:, None])  # a batch without a single picture
  _, merged = vision.encode(
    config.vision,
    params["visual"],
    prompts.patches,
    prompts.patch_segments,
    prompts.patch_positions,
    window_slots=config.layout.window_slots,
    dtype=dtype,
    remat=remat,
    attend=attend,
  )
  slots = prompts.image_slots[..., None]
  seen = jnp.take_along_axis(merged, jnp.maximum(slots, 0), axis=1)
  return Embedded(jnp.where(slots >= 0, seen, x)[:, None])
