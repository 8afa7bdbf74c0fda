"""What an update on one example does to another, before it is made.

One step of gradient descent on example u changes the mean log-probability l̄ of
what is observed, o, by (arXiv:2510.11978, Eq. 3.2; after arXiv:2407.10490)

  Δl̄(o) ≈ −η · Aᵀ K G,   A = ∂l̄/∂z_o,   K = J_o J_uᵀ,   G = ∂L/∂z_u,

z being logits and J = ∂z/∂θ. The kernel K is never formed: J_uᵀG is one
backward pass of u, and K G = J_o(J_uᵀG) one forward derivative of all o.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxvlm.typing import Params, PyTree


class Influence(NamedTuple):
  """The first-order change per unit of the rate, and its factors.

  `change` = −alignment · ‖A‖ · ‖K G‖. With U updates and O observed, f32[U, O]
  where nothing else is said.

  Attributes:
    change: Δl̄(o) / η, nats per token.
    belief: ‖A‖, f32[O].
    moved: ‖K G‖, how far the logits of o move per unit of the rate.
    alignment: cosine of A and K G.
    residual: ‖G‖, f32[U].
    gradient: ‖J_uᵀ G‖, f32[U].
  """

  change: jax.Array
  belief: jax.Array
  moved: jax.Array
  alignment: jax.Array
  residual: jax.Array
  gradient: jax.Array

  @property
  def kernel(self) -> jax.Array:
    """f32[U, O] ‖K G‖ / ‖G‖: how strongly u reaches o at all."""
    safe = jnp.where(self.residual == 0, 1.0, self.residual)
    return self.moved / safe[:, None]


def influence(
  logits: Callable[[Params, PyTree], jax.Array],
  loss: Callable[[jax.Array, PyTree], jax.Array],
  belief: Callable[[jax.Array, PyTree], jax.Array],
  params: Params,
  updates: PyTree,
  observed: PyTree,
) -> Influence:
  """Returns the influence of every update on everything observed.

  Per update one forward and one backward pass, and one forward derivative of
  what is observed, whose own forward pass is shared by all updates.

  Args:
    logits: (params, examples) -> logits z.
    loss: (z, one update) -> f32[], what the update descends.
    belief: (z, observed) -> f32[O], l̄ of each; only its own row of z may count.
    params: what is updated.
    updates: examples with a leading axis of U, each as `logits` takes it.
    observed: the examples that are looked at, together.
  """
  z_o, push = jax.linearize(lambda p: logits(p, observed), params)
  a = jax.grad(lambda z: jnp.sum(belief(z, observed)))(z_o)
  rows = z_o.shape[0]

  def per_row(x):
    return jnp.sum(x.reshape(rows, -1), -1)

  belief_norm = jnp.sqrt(per_row(a * a))

  def one(update):
    z, pull = jax.vjp(lambda p: logits(p, update), params)
    g = jax.grad(loss)(z, update)
    (slope,) = pull(g)
    kg = push(slope)
    moved = jnp.sqrt(per_row(kg * kg))
    product = per_row(a * kg)
    size = belief_norm * moved
    cosine = product / jnp.where(size == 0, 1.0, size)
    squares = jax.tree.map(lambda x: jnp.sum(jnp.square(x)), slope)
    gradient = jnp.sqrt(sum(jax.tree.leaves(squares)))
    return -product, moved, cosine, jnp.sqrt(jnp.sum(g * g)), gradient

  change, moved, cosine, residual, gradient = jax.lax.map(one, updates)
  return Influence(change, belief_norm, moved, cosine, residual, gradient)


def descend(
  logits: Callable[[Params, PyTree], jax.Array],
  loss: Callable[[jax.Array, PyTree], jax.Array],
  params: Params,
  update: PyTree,
  rate: jax.Array | float,
) -> Params:
  """Returns θ − η·∇L: the step whose influence is predicted."""
  slope = jax.grad(lambda p: loss(logits(p, update), update))(params)
  return jax.tree.map(lambda x, g: x - rate * g, params, slope)
