"""Which part of a preference update comes of the winner, which of the loser.

A loss of the DPO family reaches the parameters through log π(y_w) and
log π(y_l) alone, so its gradient of a pair is

  c_w · ∇ log π(y_w) + c_l · ∇ log π(y_l),   c = ∂L/∂ log π.

The two gradients do not depend on the loss, so losses are compared on the same
ones. arXiv:2510.11978, Section 3: DPO's c_l equals −c_w, also where the loser
is unlikely already; the "vulnerable region" are pairs that are won, a in
[0.8, 0.99], and still pushed.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxvlm.typing import Params, PyTree

VULNERABLE = (0.8, 0.99)


class PairGradients(NamedTuple):
  """Gradients of the log-probabilities of N pairs, f32[N] each.

  Attributes:
    chosen: ‖∇_θ log π(y_w)‖.
    rejected: ‖∇_θ log π(y_l)‖.
    cosine: of the two.
  """

  chosen: jax.Array
  rejected: jax.Array
  cosine: jax.Array


def pair_gradients(
  logprobs: Callable[[Params, PyTree], jax.Array],
  params: Params,
  pairs: PyTree,
) -> PairGradients:
  """Returns the norms of both gradients of every pair.

  Args:
    logprobs: (params, one pair) -> f32[2], log π of the chosen and of the
      rejected completion, sums over tokens.
    params: of the policy.
    pairs: N pairs along a leading axis.
  """

  def one(pair):
    _, pull = jax.vjp(lambda p: logprobs(p, pair), params)
    (won,), (lost,) = (pull(jnp.eye(2)[i]) for i in range(2))

    def dot(x, y):
      products = jax.tree.map(lambda a, b: jnp.sum(a * b), x, y)
      return sum(jax.tree.leaves(products))

    chosen, rejected = jnp.sqrt(dot(won, won)), jnp.sqrt(dot(lost, lost))
    size = chosen * rejected
    cosine = dot(won, lost) / jnp.where(size == 0, 1.0, size)
    return PairGradients(chosen, rejected, cosine)

  return jax.lax.map(one, pairs)


class Split(NamedTuple):
  """Norms of the two parts of a loss's gradient, f32[N] each.

  Attributes:
    winner: |c_w| · ‖∇ log π(y_w)‖.
    loser: |c_l| · ‖∇ log π(y_l)‖.
  """

  winner: jax.Array
  loser: jax.Array


def split(
  loss: Callable[[jax.Array, jax.Array], jax.Array],
  chosen_logprobs: jax.Array,
  rejected_logprobs: jax.Array,
  gradients: PairGradients,
) -> Split:
  """Returns the parts of every pair's own gradient under a loss.

  Args:
    loss: (log π(y_w) f32[N], log π(y_l) f32[N]) -> f32[], a sum over pairs:
      pass `normalizer=1` to the losses.
    chosen_logprobs: f32[N].
    rejected_logprobs: f32[N].
    gradients: of the same pairs.
  """
  won, lost = jax.grad(loss, argnums=(0, 1))(chosen_logprobs, rejected_logprobs)
  return Split(
    jnp.abs(won) * gradients.chosen, jnp.abs(lost) * gradients.rejected
  )


class Binned(NamedTuple):
  """Means over the pairs of each margin bin, f32[B] each.

  Attributes:
    count: pairs.
    winner: mean norm of the winner's part; 0 in an empty bin.
    loser: of the loser's.
  """

  count: jax.Array
  winner: jax.Array
  loser: jax.Array


def by_margin(preference: jax.Array, parts: Split, edges: jax.Array) -> Binned:
  """Returns the mean parts by how far a pair is won.

  Args:
    preference: f32[N] a = σ(β(Δ_w − Δ_l)).
    parts: of the same pairs.
    edges: f32[B + 1], ascending; what lies outside is not counted, the last
      bin holds its upper edge.
  """
  bins = len(edges) - 1
  place = jnp.searchsorted(edges, preference, side="right") - 1
  place = jnp.where(preference == edges[-1], bins - 1, place)
  place = jnp.where(place < 0, bins, place)

  def total(x):
    return jnp.zeros(bins, jnp.float32).at[place].add(x, mode="drop")

  count = total(jnp.ones_like(preference))
  safe = jnp.maximum(count, 1.0)
  return Binned(count, total(parts.winner) / safe, total(parts.loser) / safe)
