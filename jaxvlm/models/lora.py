"""Low-rank adapters: a tree of their own that adds up with the base.

The adapters are what is trained and stored; the base is frozen, has no
moments, and is the reference of the same run when they are left out
(`train.freeze`). `layers.Linear` finds them beside the kernel.
"""

import jax
import jax.numpy as jnp

from jaxvlm.models import linears
from jaxvlm.typing import Params


def init_lora(
  params: Params, key: jax.Array, *, rank: int, alpha: float, pattern: str
) -> Params:
  """Returns adapters under which the model computes exactly what it did.

    y = x W + (α / r)·(x A) B,  A ~ U(−1 / √in, 1 / √in),  B = 0

  arXiv:2106.09685, Section 4.1. A as in its reference code and in PEFT:
  `kaiming_uniform_(A, a=√5)`, whose gain is 1 / √3, so var A = 1 / (3 in). The
  factor α / r lies beside A and B as `lora_scale`: it takes no
  gradient, and an adapter checkpoint says by itself what it means.

  Args:
    params: the base before any quantization, arrays or shapes, nested dict,
      layers stacked.
    key: of the draw.
    rank: r >= 1; a rank above a matrix's sides gains nothing and is refused.
    alpha: α > 0.
    pattern: regular expression, matched from the start of paths such as
      `model/layers/q_proj/kernel`.

  Returns:
    nested dict of f32 `lora_a` [..., in, r], `lora_b` [..., r, out],
    `lora_scale` [...]; the leading axis is the layer where layers are stacked.

  Raises:
    ValueError: the pattern matches no kernel, a rank or α out of range.
  """
  if not alpha > 0:
    raise ValueError(f"alpha is {alpha}, expected a positive number")
  adapters = {}
  found = linears.find(params, pattern)
  for number, (path, leaves) in enumerate(found.items()):
    *lead, rows, columns = leaves["kernel"].shape
    if not 1 <= rank <= min(rows, columns):
      raise ValueError(
        f"rank is {rank}, expected 1 to {min(rows, columns)} for the kernel"
        f" {'/'.join(path)} of {rows} x {columns}"
      )
    bound = rows**-0.5
    adapters[path] = {
      "lora_a": jax.random.uniform(
        jax.random.fold_in(key, number),
        (*lead, rows, rank),
        minval=-bound,
        maxval=bound,
      ),
      "lora_b": jnp.zeros((*lead, rank, columns)),
      "lora_scale": jnp.full(lead, alpha / rank),
    }
  return linears.nest(adapters)


def merge_lora(params: Params, adapters: Params) -> Params:
  """Returns the base with the adapters added in: W + (α / r)·A B.

  For export; the product is computed in float32 and the kernels keep their
  dtype, to which a small update of a bfloat16 kernel may be lost: merge into
  float32 and round once.

  Args:
    params: nested dict, layers stacked.
    adapters: from `init_lora`, trained.

  Raises:
    ValueError: an adapter without a kernel to add it to.
  """
  merged = {}
  for path, adapter in linears.find(adapters, "", "lora_a").items():
    leaves = _at(params, path)
    if "kernel" not in leaves:
      raise ValueError(
        f"adapter {'/'.join(path)} has no kernel in the base, found"
        f" {sorted(leaves)}: merge into the weights before quantization"
      )
    kernel = jnp.asarray(leaves["kernel"])
    update = jnp.matmul(
      adapter["lora_a"], adapter["lora_b"], precision="highest"
    )
    scaled = jnp.expand_dims(adapter["lora_scale"], (-2, -1)) * update
    total = kernel.astype(jnp.float32) + scaled
    merged[path] = {**leaves, "kernel": total.astype(kernel.dtype)}
  return linears.replace(params, merged)


def _at(params: Params, path: linears.Path) -> linears.Leaves:
  for name in path:
    params = params.get(name, {})
  return params
