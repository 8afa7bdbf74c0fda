"""Qwen2.5-VL: the common decoder with M-RoPE and pictures in its stream."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxvlm.models import attention, decoder_layer, partition, rope
from jaxvlm.models.decoder import Decoder
from jaxvlm.models.qwen2_5_vl import vision
from jaxvlm.models.qwen2_5_vl.config import Config
from jaxvlm.models.remat import Remat
from jaxvlm.typing import Params, Prompts

Array = jax.Array


def decoder(config: Config) -> Decoder:
  """Returns the decoder of one configuration."""
  return Decoder(
    config,
    angles=functools.partial(mrope_angles, config),
    embed=functools.partial(embed_prompts, config),
    axes=3,
    stacks={"visual": "blocks", "model": "layers"},
  )


def init(config: Config, key: Array) -> Params:
  """Returns random parameters, normal(0, initializer_range), f32."""
  vision_key, text_key = jax.random.split(key)
  return {
    "visual": vision.init(config.vision, vision_key),
    "model": decoder_layer.init(config, text_key),
  }


def mrope_angles(config: Config, positions: Array) -> Array:
  """Returns M-RoPE angles f32[..., d/2] of positions i32[3, ...].

  Frequency i turns with the axis (time, height, width) whose section of
  `mrope_section` it falls into (arXiv 2409.12191, section 2.1).
  """
  d = config.head_dim
  if len(positions) == 1:  # text, laid out for a model that reads nothing else
    positions = jnp.broadcast_to(positions, (3, *positions.shape[1:]))
  frequencies = rope.frequencies(rope.Rope(config.rope_theta), d)
  angles = positions[..., None].astype(jnp.float32) * frequencies
  edges = (config.mrope_section[0], sum(config.mrope_section[:2]))
  axis = jnp.digitize(jnp.arange(d // 2), jnp.array(edges))
  return jnp.where(axis == 0, angles[0], jnp.where(axis == 1, *angles[1:]))


def embed_prompts(
  config: Config,
  params: Params,
  prompts: Prompts,
  *,
  dtype: Any = jnp.float32,
  remat: Remat = Remat.NONE,
  attend: attention.Attend = attention.attend,
) -> Array:
  """Returns the decoder's input [N, 1, S, D]: text and merged image tokens."""
  table = params["model"]["embed_tokens"]
  x = partition.embed(table, prompts.tokens, dtype)
  if prompts.patches is None or prompts.patches.shape[1] == 0:
    return x[:, None]  # a batch without a single picture
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
  return jnp.where(slots >= 0, seen, x)[:, None]
