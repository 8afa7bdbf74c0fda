"""Qwen2.5-VL: the common decoder with M-RoPE and pictures in its stream."""

import jax
import jax.numpy as jnp

from jaxvlm.models import rope, tower
from jaxvlm.models.decoder import Decoder
from jaxvlm.models.qwen2_5_vl import vision
from jaxvlm.models.qwen2_5_vl.config import Config
from jaxvlm.typing import Params

Array = jax.Array


def decoder(config: Config) -> Decoder:
  """Returns the decoder of one configuration."""
  return tower.decoder(config, angles=mrope_angles, encode=vision.encode)


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
