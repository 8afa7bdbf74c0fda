"""The squeezing meter: where probability goes that a negative update frees.

Ren & Sutherland (arXiv:2407.10490, Section 3.3): pushing down a label y⁻ that
is unlikely already moves mass from everywhere to y*, the likeliest of the
other labels. Five properties of one step on a softmax of linear logits:
  1. p(y⁻) falls;
  2. p(y*) rises;
  3. the rich get richer: log p′/p grows with p among the other labels;
  4. the more peaked p, the more of the other labels fall beside y*;
  5. the smaller p(y⁻), the more they lose.
`squeeze` measures all of it, of whatever made a step from p to p′.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxvlm.typing import Params


class Squeeze(NamedTuple):
  """What one update did to one distribution, f32[…] each.

  Attributes:
    level: p(y⁻) before.
    peak: p(y*) before.
    negative: change of p(y⁻).
    top: change of p(y*).
    rest: change of the mass of all other labels together.
    richer: correlation of log p′/p with p over all labels but y⁻; 1 on linear
      logits.
    fallen: share of the labels beside y⁻ and y* that lost probability.
  """

  level: jax.Array
  peak: jax.Array
  negative: jax.Array
  top: jax.Array
  rest: jax.Array
  richer: jax.Array
  fallen: jax.Array


def squeeze(
  before: jax.Array, after: jax.Array, negatives: jax.Array
) -> Squeeze:
  """Returns what moved between two distributions.

  Args:
    before: f32[…, V] log-probabilities before the update.
    after: f32[…, V] the same after it.
    negatives: i32[…] the label y⁻ that was pushed down.

  Raises:
    ValueError: shapes that do not fit, or fewer than three labels.
  """
  vocab = before.shape[-1]
  if after.shape != before.shape or negatives.shape != before.shape[:-1]:
    raise ValueError(
      f"before, after and negatives have shapes {before.shape},"
      f" {after.shape} and {negatives.shape}, expected […, V] twice and […]"
    )
  if vocab < 3:
    raise ValueError(f"there are {vocab} labels, expected at least 3")
  labels = jnp.arange(vocab)
  others = labels != negatives[..., None]
  tops = jnp.argmax(jnp.where(others, before, -jnp.inf), -1)
  rest = others & (labels != tops[..., None])
  p, q = jnp.exp(before), jnp.exp(after)
  gain = q - p

  def at(x, label):
    return jnp.take_along_axis(x, label[..., None], -1)[..., 0]

  return Squeeze(
    level=at(p, negatives),
    peak=at(p, tops),
    negative=at(gain, negatives),
    top=at(gain, tops),
    rest=jnp.sum(jnp.where(rest, gain, 0.0), -1),
    richer=_correlation(p, after - before, others),
    fallen=jnp.sum(rest & (after < before), -1) / (vocab - 2),
  )


def negative_step(
  logits: Callable[[Params], jax.Array],
  params: Params,
  negatives: jax.Array,
  mask: jax.Array,
  rate: float,
) -> Squeeze:
  """Returns what one step of gradient ascent on −log p(y⁻) does to a model.

  θ′ = θ − η·∇_θ Σ_t log p(y⁻_t)

  Args:
    logits: parameters -> f32[…, V] logits where y⁻ stands.
    params: the model.
    negatives: i32[…] the tokens of y⁻.
    mask: bool[…] tokens that count; elsewhere nothing is pushed, and what is
      returned there means nothing.
    rate: η > 0.
  """

  def logprobs(params):
    return jax.nn.log_softmax(logits(params), -1)

  def pushed(params):
    all_labels = logprobs(params)
    picked = jnp.take_along_axis(all_labels, negatives[..., None], -1)[..., 0]
    return jnp.sum(jnp.where(mask, picked, 0.0)), all_labels

  slope, before = jax.grad(pushed, has_aux=True)(params)
  moved = jax.tree.map(lambda x, g: x - rate * g, params, slope)
  return squeeze(before, logprobs(moved), negatives)


def _correlation(x: jax.Array, y: jax.Array, where: jax.Array) -> jax.Array:
  """Returns Pearson's correlation along the last axis; 0 without a spread."""
  count = jnp.sum(where, -1, keepdims=True)

  def centered(v):
    mean = jnp.sum(jnp.where(where, v, 0.0), -1, keepdims=True) / count
    return jnp.where(where, v - mean, 0.0)

  x, y = centered(x), centered(y)
  spread = jnp.sqrt(jnp.sum(x * x, -1) * jnp.sum(y * y, -1))
  safe = jnp.where(spread == 0, 1.0, spread)
  return jnp.sum(x * y, -1) / safe
