"""The decoder: grouped-query attention, M-RoPE, SwiGLU, over two streams.

Prompts and completions run through the same layer as two streams. The prompt
stream [N, 1, S, D] makes keys and values; the completion stream [N, G, T, D]
reads them as one shared block beside its own (`attention`). Nothing of
the prompt is copied G times, in training as in sampling.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvlm.models import attention, layers
from jaxvlm.models.qwen2_5_vl.config import Config
from jaxvlm.sharding import ROWS, constrain

Array = jax.Array
# (k, v) of this layer -> (what the queries may look at, what to keep)
Context = Callable[[Array, Array], tuple[tuple[attention.Block, ...], Any]]


class DecoderLayer(nn.Module):
  """One decoder layer; what it attends to is decided by `context`."""

  config: Config
  dtype: Any = jnp.float32
  attend: attention.Attend = attention.attend

  def setup(self):
    c = self.config
    std, kv = c.initializer_range, c.num_key_value_heads * c.head_dim
    self.input_layernorm = layers.RMSNorm(c.rms_norm_eps)
    self.post_attention_layernorm = layers.RMSNorm(c.rms_norm_eps)
    self.q_proj = layers.linear(c.hidden_size, True, std, self.dtype)
    self.k_proj = layers.linear(kv, True, std, self.dtype)
    self.v_proj = layers.linear(kv, True, std, self.dtype)
    self.o_proj = layers.linear(c.hidden_size, False, std, self.dtype)
    self.mlp = layers.SwiGLU(
      c.hidden_size, c.intermediate_size, False, std, self.dtype
    )

  def __call__(
    self, x: Array, rope: layers.Rotary, context: Context
  ) -> tuple[Array, Any]:
    """Returns (x [N, G, T, D], what `context` keeps)."""
    d = self.config.head_dim
    x = constrain(x, ROWS)
    h = self.input_layernorm(x)
    q = self.q_proj(h).reshape(*h.shape[:-1], -1, d)
    k = self.k_proj(h).reshape(*h.shape[:-1], -1, d)
    v = self.v_proj(h).reshape(*h.shape[:-1], -1, d)
    q, k, v = (constrain(y, ROWS, None, None, "tensor") for y in (q, k, v))
    q, k = layers.apply_rotary(q, rope), layers.apply_rotary(k, rope)
    blocks, kept = context(k, v)
    out = self.attend(q, *blocks)
    x = x + self.o_proj(out.reshape(*h.shape))
    return x + self.mlp(self.post_attention_layernorm(x)), kept


def rope(config: Config, positions: Array) -> layers.Rotary:
  """Returns M-RoPE cos and sin [..., d/2] of positions i32[3, ...].

  Frequency i turns with the axis (time, height, width) whose section of
  `mrope_section` it falls into (arXiv 2409.12191, section 2.1).
  """
  d = config.head_dim
  inverse = config.rope_theta ** (-jnp.arange(0, d, 2, dtype=jnp.float32) / d)
  angles = positions[..., None].astype(jnp.float32) * inverse
  edges = (config.mrope_section[0], sum(config.mrope_section[:2]))
  axis = jnp.digitize(jnp.arange(d // 2), jnp.array(edges))
  picked = jnp.where(axis == 0, angles[0], jnp.where(axis == 1, *angles[1:]))
  return layers.rotary(picked)


def init(config: Config, key: Array) -> Any:
  """Returns random parameters of the decoder, layers stacked."""
  embed_key, layer_key, head_key = jax.random.split(key, 3)
  shape = (config.vocab_size, config.hidden_size)
  std = config.initializer_range
  x = jnp.zeros((1, 1, 1, config.hidden_size))
  zero = rope(config, jnp.zeros((3, 1, 1, 1), jnp.int32))

  def context(k, v):
    return (attention.Block(k, v, jnp.ones((1, 1, 1, 1), bool)),), None

  def layer(key):
    return DecoderLayer(config).init(key, x, zero, context)["params"]

  params = {
    "embed_tokens": std * jax.random.normal(embed_key, shape),
    "layers": jax.vmap(layer)(
      jax.random.split(layer_key, config.num_hidden_layers)
    ),
    "norm": {"weight": jnp.ones((config.hidden_size,))},
  }
  if not config.tie_word_embeddings:
    params["lm_head"] = std * jax.random.normal(head_key, shape[::-1])
  return params
