"""Building blocks shared by the vision tower and the decoder.

Matrices are applied in the compute dtype; norms, rotary positions and softmax
run in float32 whatever the compute dtype is.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array

# Large and finite: a row that may attend to nothing (a padded query) gets a
# uniform softmax instead of NaN, whose gradient would poison everything.
_MASKED = -1e30


class RMSNorm(nn.Module):
  """x / rms(x) · weight, in float32; the parameter is named as in HF."""

  eps: float
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    weight = self.param(
      "weight", nn.initializers.ones, (x.shape[-1],), self.param_dtype
    )
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + self.eps)
    return weight.astype(x.dtype) * y.astype(x.dtype)


class SwiGLU(nn.Module):
  """down(silu(gate(x)) · up(x))."""

  width: int
  hidden: int
  use_bias: bool
  std: float
  dtype: Any = jnp.float32

  def setup(self):
    self.gate_proj = linear(self.hidden, self.use_bias, self.std, self.dtype)
    self.up_proj = linear(self.hidden, self.use_bias, self.std, self.dtype)
    self.down_proj = linear(self.width, self.use_bias, self.std, self.dtype)

  def __call__(self, x: Array) -> Array:
    return self.down_proj(nn.silu(self.gate_proj(x)) * self.up_proj(x))


def linear(features: int, use_bias: bool, std: float, dtype: Any) -> nn.Dense:
  """Returns a Dense with the family's normal(0, std) initializer."""
  return nn.Dense(
    features,
    use_bias=use_bias,
    dtype=dtype,
    kernel_init=nn.initializers.normal(std),
  )


class Rotary(NamedTuple):
  """cos and sin of the rotary angles, f32[…, d / 2]."""

  cos: Array
  sin: Array


def rotary(angles: Array) -> Rotary:
  """Returns cos and sin of `angles` f32[…, d / 2]."""
  return Rotary(jnp.cos(angles), jnp.sin(angles))


def apply_rotary(x: Array, rope: Rotary) -> Array:
  """Rotates pairs (i, i + d/2) of the last axis, in float32.

  Args:
    x: [..., heads, d].
    rope: angles f32[..., d / 2], one per position, shared by heads.
  """
  low, high = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  cos, sin = rope.cos[..., None, :], rope.sin[..., None, :]
  rotated = jnp.concatenate(
    [low * cos - high * sin, high * cos + low * sin], axis=-1
  )
  return rotated.astype(x.dtype)


class Block(NamedTuple):
  """Keys and values that queries may look at.

  Attributes:
    k: [N, g, S, K, d]; g = 1 is shared by all G completions of a prompt.
    v: as k.
    mask: bool, broadcastable to [N, G, Q, S]; True where a query may look.
  """

  k: Array
  v: Array
  mask: Array


def attend(q: Array, *blocks: Block) -> Array:
  """Softmax attention over the union of several blocks of keys.

    out = Σ_b Σ_s exp(q·k_bs/√d − m) v_bs / Σ_b Σ_s exp(q·k_bs/√d − m)

  A block with g = 1 is multiplied once for all completions of a prompt: its
  keys are read once per prompt, which is what makes a shared prefix cheap.

  Args:
    q: [N, G, Q, H, d]; H is a multiple of the kv heads K.
    *blocks: at least one Block.

  Returns:
    [N, G, Q, H, d] in the dtype of `q`.
  """
  n, g, t, heads, d = q.shape
  kv_heads = blocks[0].k.shape[3]
  q = (q * d**-0.5).reshape(n, g, t, kv_heads, heads // kv_heads, d)
  scores = [_scores(q, block) for block in blocks]
  top = functools.reduce(
    jnp.maximum, (s.max(-1, keepdims=True, initial=_MASKED) for s in scores)
  )
  weights = [jnp.exp(s - jax.lax.stop_gradient(top)) for s in scores]
  total = sum(w.sum(-1, keepdims=True) for w in weights)
  out = sum(
    _mix((w / total).astype(q.dtype), b.v)
    for w, b in zip(weights, blocks, strict=True)
  )
  return out.reshape(n, g, t, heads, d)


def _scores(q: Array, block: Block) -> Array:
  """Returns masked f32 scores [N, K, R, G, Q, S] of one block."""
  if block.k.shape[1] == 1:
    subscripts, k = "ngtkrd,nskd->nkrgts", block.k[:, 0]
  else:
    subscripts, k = "ngtkrd,ngskd->nkrgts", block.k
  s = jnp.einsum(subscripts, q, k, preferred_element_type=jnp.float32)
  return jnp.where(block.mask[:, None, None], s, _MASKED)


def _mix(weights: Array, v: Array) -> Array:
  """Returns the weighted values [N, G, Q, K, R, d]."""
  if v.shape[1] == 1:
    return jnp.einsum("nkrgts,nskd->ngtkrd", weights, v[:, 0])
  return jnp.einsum("nkrgts,ngskd->ngtkrd", weights, v)


def over_layers(
  body: Callable[..., tuple[Any, Any]], carry: Any, layers: Any, *more: Any
) -> tuple[Any, Any]:
  """Runs `body(carry, layer, *more) -> (carry, output)` over all layers.

  Layers stacked along a leading axis are scanned (short to compile, one
  layer's buffers at a time); a tuple of layers is unrolled (nothing sliced
  inside a loop). `more` are per-layer inputs in the same form, and so are the
  outputs.
  """
  if not isinstance(layers, tuple):
    return jax.lax.scan(lambda c, xs: body(c, *xs), carry, (layers, *more))
  outputs = []
  for inputs in zip(layers, *more, strict=True):
    carry, output = body(carry, *inputs)
    outputs.append(output)
  return carry, tuple(outputs)


def unstack(stacked: Any) -> tuple[Any, ...]:
  """Returns the layers of a stacked tree as a tuple of trees."""
  if isinstance(stacked, tuple):
    return stacked
  count = jax.tree.leaves(stacked)[0].shape[0]
  return tuple(jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(count))
