"""Building blocks shared by the vision tower and the decoder.

Matrices are applied in the compute dtype; norms, rotary positions and softmax
run in float32 whatever the compute dtype is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

Array = jax.Array


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


class LayerNorm(nn.Module):
  """(x − mean) / std · weight + bias, in float32; parameters as in HF."""

  eps: float

  @nn.compact
  def __call__(self, x: Array) -> Array:
    width = (x.shape[-1],)
    weight = self.param("weight", nn.initializers.ones, width)
    bias = self.param("bias", nn.initializers.zeros, width)
    y = x.astype(jnp.float32)
    y = y - jnp.mean(y, -1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + self.eps)
    return (weight * y + bias).astype(x.dtype)


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


class Linear(nn.Module):
  """x W + b, in the form in which the matrix is stored.

    {kernel}                               y = x W + b
    {kernel_int8, kernel_scale}            y = (x Q)·c + b,  W ≈ Q·diag(c)
    either, {lora_a, lora_b, lora_scale}   y + s·(x A) B

  LoRA is arXiv:2106.09685, Eq. 3. The leaves decide and no flag: policy,
  reference and teacher stay one function on different trees. Integers up to
  127 are exact in bfloat16 and the scale belongs to the output channel, so
  the quantized product rounds no more than the plain one.

  Attributes:
    features: width of the output.
    use_bias: adds `bias`.
    std: of the normal initializer.
    dtype: compute dtype.
  """

  features: int
  use_bias: bool
  std: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = x.astype(self.dtype)
    if self._has("kernel_int8"):
      y = self._scaled(self._times(x, "kernel_int8"), "kernel_scale")
    else:
      init = nn.initializers.normal(self.std)
      self.param("kernel", init, (x.shape[-1], self.features))
      y = self._times(x, "kernel")
    if self.use_bias:
      self.param("bias", nn.initializers.zeros, (self.features,))
      y = y + self._stored("bias")
    if self._has("lora_a"):
      update = self._times(self._times(x, "lora_a"), "lora_b")
      y = y + self._scaled(update, "lora_scale")
    # The name by which `models.remat` picks what to keep.
    return checkpoint_name(y, self.name or "linear")

  def _has(self, leaf: str) -> bool:
    return self.has_variable("params", leaf)

  def _stored(self, leaf: str) -> Array:
    return self.get_variable("params", leaf).astype(self.dtype)

  def _times(self, x: Array, leaf: str) -> Array:
    contract = (((x.ndim - 1,), (0,)), ((), ()))
    return jax.lax.dot_general(x, self._stored(leaf), contract)

  def _scaled(self, y: Array, leaf: str) -> Array:
    # A constant, also where it travels with trained adapters; not rounded.
    scale = jax.lax.stop_gradient(self.get_variable("params", leaf))
    return (y * scale).astype(self.dtype)


def linear(features: int, use_bias: bool, std: float, dtype: Any) -> Linear:
  """Returns a Linear with the family's normal(0, std) initializer."""
  return Linear(features, use_bias, std, dtype)


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


def over_layers(
  body: Callable[..., tuple[Any, Any]], carry: Any, layers: Any, *more: Any
) -> tuple[Any, Any]:
  """Runs `body(carry, layer, *more) -> (carry, output)` over all layers.

  Layers stacked along a leading axis are scanned (short to compile, one
  layer's buffers at a time); a tuple of layers is unrolled (nothing sliced
  inside a loop). `more` are per-layer inputs in the same form, and so are the
  outputs; None among them is None to every layer.
  """
  if not isinstance(layers, tuple):
    return jax.lax.scan(lambda c, xs: body(c, *xs), carry, (layers, *more))
  outputs = []
  given = [(None,) * len(layers) if each is None else each for each in more]
  for inputs in zip(layers, *given, strict=True):
    carry, output = body(carry, *inputs)
    outputs.append(output)
  return carry, tuple(outputs)


def numbers(layers: Any) -> Any:
  """Returns 0, 1, 2 … for `over_layers`, one a layer, in the form of `layers`.

  Python integers where layers are unrolled: each compiles its own case only.
  """
  if isinstance(layers, tuple):
    return tuple(range(len(layers)))
  return jnp.arange(jax.tree.leaves(layers)[0].shape[0])


def cast(layer: Any, dtype: Any) -> Any:
  """Returns a layer's parameters with its kernels in the compute type."""

  def one(path, x):
    return x.astype(dtype) if path[-1].key == "kernel" else x

  return jax.tree_util.tree_map_with_path(one, layer)


def unstack(stacked: Any) -> tuple[Any, ...]:
  """Returns the layers of a stacked tree as a tuple of trees."""
  if isinstance(stacked, tuple):
    return stacked
  count = jax.tree.leaves(stacked)[0].shape[0]
  return tuple(jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(count))
