"""Rotary positions: at which speeds the pairs of a head turn."""

import jax
import jax.numpy as jnp

Array = jax.Array


def frequencies(theta: float, head_dim: int) -> Array:
  """Returns the turns f32[d/2] of one position: θ^(−2i / d), in radians.

  arXiv:2104.09864, Section 3.2.2.
  """
  d = head_dim
  return theta ** (-jnp.arange(0, d, 2, dtype=jnp.float32) / d)
