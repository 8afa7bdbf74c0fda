"""What families with pictures share: positions, heads, the decoder behind.

A family brings its tower as `encode`: (config, the tower's parameters, prompts,
*, dtype, remat, attend) -> `Seen`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxvlm.models import decoder_layer, layers, partition
from jaxvlm.models.decoder import Decoder, Embedded
from jaxvlm.sharding import ROWS, constrain
from jaxvlm.typing import Params, Prompts

Array = jax.Array

NORM_EPS = 1e-6  # fixed in the reference, not part of config.json
ROPE_THETA = 1e4  # of the 2-D positions; transformers' "axial" default


def rope_angles(config: Any, positions: Array) -> Array:
  """Returns 2-D rotary angles f32[N, P, d / 2] of (row, column) i32[N, P, 2].

  The first half of the frequencies turns with the row, the second with the
  column (transformers' `Qwen2_5_VLVisionRotaryEmbedding`).

  Args:
    config: the tower, with `hidden_size` and `num_heads`.
    positions: of the patches.
  """
  axis = config.hidden_size // config.num_heads // 2
  inverse = ROPE_THETA ** (-jnp.arange(0, axis, 2, dtype=jnp.float32) / axis)
  angles = positions[..., None].astype(jnp.float32) * inverse
  return angles.reshape(*positions.shape[:-1], axis)


def heads(
  qkv: Array, count: int, rope: layers.Rotary
) -> tuple[Array, Array, Array]:
  """Returns q, k, v [N, P, H, d]; q and k are turned to their positions.

  Args:
    qkv: [N, P, 3·H·d] of the one product that makes them.
    count: H.
    rope: angles of the patches.
  """
  qkv = qkv.reshape(*qkv.shape[:-1], 3, count, -1)
  qkv = constrain(qkv, ROWS, None, None, "tensor")
  q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
  return layers.apply_rotary(q, rope), layers.apply_rotary(k, rope), v


class Seen(NamedTuple):
  """What a tower made of the pictures.

  Attributes:
    hidden: [N, P, D] after its last layer.
    merged: [N, M, D_out] image tokens.
    features: [K, N, M, D_out] for the outputs of the decoder's first K layers
      (DeepStack), in their order; None where the decoder gets none.
  """

  hidden: Array
  merged: Array
  features: Array | None = None


def decoder(
  config: Any, *, angles: Callable[..., Array], encode: Callable[..., Seen]
) -> Decoder:
  """Returns the decoder behind a tower; positions have three axes.

  Args:
    config: of the whole model.
    angles: (config, positions) -> as `Decoder.angles`.
    encode: the tower.
  """
  return Decoder(
    config,
    angles=functools.partial(angles, config),
    embed=functools.partial(embed, config, encode),
    axes=3,
    stacks={"visual": "blocks", "model": "layers"},
  )


def embed(
  config: Any,
  encode: Callable[..., Seen],
  params: Params,
  prompts: Prompts,
  *,
  dtype: Any,
  **options: Any,
) -> Embedded:
  """Returns the decoder's input: text, image tokens in it, and features.

  `Decoder.embed`, once a family's configuration and tower are given.
  """
  table = params["model"]["embed_tokens"]
  x = partition.embed(table, prompts.tokens, dtype)
  if prompts.patches is None or prompts.patches.shape[1] == 0:
    return Embedded(x[:, None])  # a batch without a single picture
  seen = encode(config, params["visual"], prompts, dtype=dtype, **options)
  slots = prompts.image_slots[..., None]

  def placed(values: Array, otherwise: Array | float) -> Array:
    """Returns [N, 1, S, D] of image tokens [N, M, D], and what text has."""
    found = jnp.take_along_axis(values, jnp.maximum(slots, 0), axis=1)
    return jnp.where(slots >= 0, found, otherwise)[:, None]

  x = placed(seen.merged, x)
  if seen.features is None:
    return Embedded(x)
  gains = jax.vmap(lambda values: placed(values, 0.0))(seen.features)
  return Embedded(x, constrain(gains, None, ROWS))


def init(
  config: Any, key: Array, *, vision: Callable[[Any, Array], Params]
) -> Params:
  """Returns random parameters, normal(0, initializer_range), f32.

  Args:
    config: of the whole model.
    key: of the draw.
    vision: (tower's configuration, key) -> its parameters.
  """
  vision_key, text_key = jax.random.split(key)
  return {
    "visual": vision(config.vision, vision_key),
    "model": decoder_layer.init(config, text_key),
  }
