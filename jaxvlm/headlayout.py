"""How a mesh shares a vocabulary: its columns over devices, not the tokens.

Every device has some columns of the head for the tokens of all its neighbors,
not all columns for its own tokens. So no device ever holds a head or its
gradient, and what travels are hidden states: of 7B on 64 chips a fifth of what
the head's float32 gradient would be, let alone once a chunk. The axes are those
of `jaxvlm.sharding`; without a mesh nothing here does anything.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

TOKENS = ("data",)
VOCAB = ("tensor", "fsdp")
WIDTH = ("fsdp",)  # where parameters are cut, and their gradients wanted


def devices() -> int:
  """Returns how many devices the partitioner may spread an array over."""
  return math.prod(_auto_axes().values())


def parts(names: tuple[str, ...]) -> int:
  """Returns how many devices these axes of the mesh in force have."""
  auto = _auto_axes()
  return math.prod(auto.get(name, 1) for name in names)


def _auto_axes() -> dict[str, int]:
  """Returns name -> devices of what the partitioner may spread over."""
  mesh = jax.sharding.get_abstract_mesh()
  auto = jax.sharding.AxisType.Auto
  axes = zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types, strict=True)
  return {name: size for name, size, kind in axes if kind == auto}


def by_vocabulary(head: Array) -> Array:
  """Lays a head [D, V] out by columns, whole along the width.

  Left alone, the partitioner may sum logits over a split width instead, once
  a chunk.
  """
  return laid_out(head, (), VOCAB)


def by_width(head: Array) -> Array:
  """Lays a gradient [D, V] out as parameters are.

  Columns are padded so that all devices exchange pieces of one size; with
  unequal ones the partitioner gathers the whole head on every device first.
  """
  if parts(VOCAB) == 1:
    return head
  vocab = head.shape[1]
  x = by_vocabulary(jnp.pad(head, ((0, 0), (0, -vocab % parts(VOCAB)))))
  return laid_out(x, WIDTH, ("tensor",))[:, :vocab]


def laid_out(x: Array, rows: tuple[str, ...], columns: tuple[str, ...]):
  """Returns `x` spread over these axes of the mesh in force.

  On a mesh with other names, what would be cut stays as it came.
  """
  if devices() == 1:
    return x
  auto = _auto_axes()
  known = any(name in auto for name in VOCAB)

  def fit(names):
    if not known:
      return jax.P.UNCONSTRAINED if names else None
    return tuple(name for name in names if name in auto) or None

  return jax.lax.with_sharding_constraint(x, jax.P(fit(rows), fit(columns)))
