"""Weight-only int8: a frozen teacher or reference in a quarter of the memory.

Only the kernels of Linear layers are quantized. Embedding, head, norms and
biases stay as they are: they are few, or looked up and not multiplied, or
decide the softmax directly.
"""

import jax
import jax.numpy as jnp

from jaxvlm.models import linears
from jaxvlm.typing import Params

_LARGEST = 127  # symmetric: −128 has no partner


def quantize_int8(params: Params, pattern: str) -> Params:
  """Returns `params` with matching kernels as int8 and a scale per channel.

    Q = round(W / c),  c_j = max_i |W_ij| / 127,  |W − Q·diag(c)| <= c / 2

  Symmetric, per output channel, to the nearest even, as LLM.int8() does by
  row (arXiv:2208.07339, Section 2.1). `kernel` [..., in, out] becomes
  `kernel_int8` i8[..., in, out] and `kernel_scale` f32[..., out], which
  `layers.Linear` multiplies as they are: 1 + 4 / in bytes per parameter. Under
  `jit` no float32 copy of a bfloat16 tree is made.

  Args:
    params: nested dict, layers stacked; takes no gradient afterwards.
    pattern: regular expression, matched from the start of paths such as
      `model/layers/q_proj/kernel`.

  Raises:
    ValueError: the pattern matches no kernel.
  """

  def quantized(kernel, **rest):
    values, scale = _quantize(kernel)
    return {**rest, "kernel_int8": values, "kernel_scale": scale}

  found = linears.find(params, pattern)
  return linears.replace(
    params, {path: quantized(**leaves) for path, leaves in found.items()}
  )


def _quantize(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns (i8[..., in, out], f32[..., out])."""
  kernel = jnp.asarray(kernel, jnp.float32)
  scale = jnp.max(jnp.abs(kernel), axis=-2) / _LARGEST
  scale = jnp.where(scale > 0, scale, 1.0)  # a channel of zeros
  values = jnp.round(kernel / scale[..., None, :])
  return values.astype(jnp.int8), scale
