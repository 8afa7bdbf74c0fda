"""Influence and squeezing of a model's own completions."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxvlm.diagnostics import influence as influences
from jaxvlm.diagnostics import squeezing
from jaxvlm.diagnostics.influence import Influence
from jaxvlm.diagnostics.squeezing import Squeeze
from jaxvlm.sharding import prompt_axes
from jaxvlm.typing import Batch, Model, Params, PyTree


def influence(
  model: Model, params: Params, batch: Batch, *, vocab_size: int
) -> Influence:
  """Returns what SFT on every completion does to every completion.

  An update descends the mean negative log-likelihood of one completion's
  tokens; what is observed is the mean log-probability of another's. To first
  order unlearning does the opposite.

  Args:
    model: its functions.
    params: its parameters.
    batch: N prompts with K completions each, all with tokens.
    vocab_size: the tokenizer's.

  Returns:
    Influence with U = O = N·K, completions of a prompt side by side.
  """

  def logits(params: Params, batch: Batch) -> Array:
    return _logits(model, params, batch, vocab_size)

  def belief(z: Array, batch: Batch) -> Array:
    tokens, mask = _flat(batch.tokens), _flat(batch.mask)
    logs = jax.nn.log_softmax(z, -1)
    picked = jnp.take_along_axis(logs, tokens[..., None], -1)[..., 0]
    total = jnp.sum(jnp.where(mask, picked, 0.0), -1)
    return total / jnp.maximum(jnp.sum(mask, -1), 1)

  def loss(z: Array, batch: Batch) -> Array:
    return -jnp.sum(belief(z, batch))

  each = one_by_one(batch)
  return influences.influence(logits, loss, belief, params, each, batch)


def squeeze(
  model: Model,
  params: Params,
  batch: Batch,
  *,
  vocab_size: int,
  rate: float,
) -> Squeeze:
  """Returns what unlearning each completion alone does to its distributions.

  Args:
    model: its functions.
    params: its parameters.
    batch: N prompts with K completions each: the negatives.
    vocab_size: the tokenizer's.
    rate: η > 0 of one step of gradient ascent on −log p of the tokens.

  Returns:
    Squeeze of f32[N·K, T]; it means nothing where no token counts.
  """

  def one(example: Batch) -> Squeeze:
    tokens, mask = _flat(example.tokens), _flat(example.mask)
    found = squeezing.negative_step(
      lambda p: _logits(model, p, example, vocab_size),
      params,
      jnp.where(mask, tokens, 0),
      mask,
      rate,
    )
    return jax.tree.map(lambda x: x[0], found)

  return jax.lax.map(one, one_by_one(batch))


def one_by_one(batch: Batch) -> PyTree:
  """Returns batches of one prompt and one completion, along a leading axis."""
  n, k, t = batch.tokens.shape

  def each(x: Array, axis: int) -> Array:
    x = jnp.moveaxis(jnp.repeat(x, k, axis), axis, 0)
    return jnp.expand_dims(x, axis + 1)

  return Batch(
    jax.tree.map(each, batch.prompts, prompt_axes(batch.prompts)),
    jnp.reshape(batch.tokens, (n * k, 1, 1, t)),
    jnp.reshape(batch.mask, (n * k, 1, 1, t)),
  )


def _logits(
  model: Model, params: Params, batch: Batch, vocab_size: int
) -> Array:
  """Returns f32[N·K, T, V]; 0 where no token counts, in the gradient, too."""
  hidden = _flat(model.forward(params, batch))
  head = model.head(params)[:, :vocab_size].astype(hidden.dtype)
  z = jnp.einsum(
    "ntd,dv->ntv", hidden, head, preferred_element_type=jnp.float32
  )
  return jnp.where(_flat(batch.mask)[..., None], z, 0.0)


def _flat(x: Array) -> Array:
  """Joins the axes of prompts and completions."""
  return jnp.reshape(x, (-1, *x.shape[2:]))
