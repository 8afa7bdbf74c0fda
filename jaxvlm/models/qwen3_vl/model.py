"""Qwen3-VL: the common decoder with pictures in its stream and DeepStack."""

import jax
import numpy as np

from jaxvlm.models import rope, tower
from jaxvlm.models.decoder import Decoder
from jaxvlm.models.qwen3_vl import vision
from jaxvlm.models.qwen3_vl.config import Config
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

  The axes take turns, time, height, width, time …, until height and width
  have the frequencies of their section; the rest is time's: each axis has
  fast and slow ones.
  """
  axes = np.zeros(config.head_dim // 2, np.int32)
  for axis in (1, 2):
    axes[axis : 3 * config.mrope_section[axis] : 3] = axis
  turns = rope.frequencies(rope.Rope(config.rope_theta), config.head_dim)
  return rope.by_axis(rope.mrope_angles(positions, turns), axes)
