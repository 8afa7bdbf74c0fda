"""One decoder layer: grouped-query attention, rotary positions, SwiGLU.

Prompts and completions run through the same layer as two streams. The prompt
stream [N, 1, S, D] makes keys and values; the completion stream [N, G, T, D]
reads them as one shared block beside its own (`attention`). Nothing of
the prompt is copied G times, in training as in sampling.
"""

from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvlm.models import attention, layers
from jaxvlm.sharding import ROWS, constrain

Array = jax.Array
# (k, v) of this layer -> (what the queries may look at, what to keep)
Context = Callable[[Array, Array], tuple[tuple[attention.Block, ...], Any]]


class DecoderConfig(Protocol):
  """What a decoder reads of its family's configuration.

  Names are those of config.json, but for the biases and the norms of queries
  and keys, which families name differently or fix.
  """

  vocab_size: int
  hidden_size: int
  intermediate_size: int
  num_hidden_layers: int
  num_attention_heads: int
  num_key_value_heads: int
  head_dim: int
  rms_norm_eps: float
  initializer_range: float
  tie_word_embeddings: bool
  qkv_bias: bool
  o_bias: bool
  mlp_bias: bool
  qk_norm: bool


class DecoderLayer(nn.Module):
  """One decoder layer; what it attends to is decided by `context`."""

  config: DecoderConfig
  dtype: Any = jnp.float32
  attend: attention.Attend = attention.attend

  def setup(self):
    c = self.config
    std = c.initializer_range
    q, kv = (
      c.num_attention_heads * c.head_dim,
      c.num_key_value_heads * c.head_dim,
    )
    self.input_layernorm = layers.RMSNorm(c.rms_norm_eps)
    self.post_attention_layernorm = layers.RMSNorm(c.rms_norm_eps)
    self.q_proj = layers.linear(q, c.qkv_bias, std, self.dtype)
    self.k_proj = layers.linear(kv, c.qkv_bias, std, self.dtype)
    self.v_proj = layers.linear(kv, c.qkv_bias, std, self.dtype)
    self.o_proj = layers.linear(c.hidden_size, c.o_bias, std, self.dtype)
    if c.qk_norm:  # of a head, before it is turned to its position
      self.q_norm = layers.RMSNorm(c.rms_norm_eps)
      self.k_norm = layers.RMSNorm(c.rms_norm_eps)
    self.mlp = layers.SwiGLU(
      c.hidden_size, c.intermediate_size, c.mlp_bias, std, self.dtype
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
    if self.config.qk_norm:
      q, k = self.q_norm(q), self.k_norm(k)
    q, k = layers.apply_rotary(q, rope), layers.apply_rotary(k, rope)
    blocks, kept = context(k, v)
    out = self.attend(q, *blocks)
    x = x + self.o_proj(out.reshape(*h.shape[:-1], -1))
    return x + self.mlp(self.post_attention_layernorm(x)), kept


def init(config: DecoderConfig, key: Array) -> Any:
  """Returns random parameters of the decoder, layers stacked."""
  embed_key, layer_key, head_key = jax.random.split(key, 3)
  shape = (config.vocab_size, config.hidden_size)
  std = config.initializer_range
  x = jnp.zeros((1, 1, 1, config.hidden_size))
  zero = layers.rotary(jnp.zeros((1, 1, 1, config.head_dim // 2)))

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
