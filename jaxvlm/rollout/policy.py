"""A model made ready for a decode loop: weights at hand, vocabulary cut."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxvlm.models.cache import Prefix
from jaxvlm.typing import Model, Params, Prompts


class Policy(NamedTuple):
  """Arrays and functions of one policy inside a traced program.

  Attributes:
    model: its functions.
    params: unstacked, for the prompts.
    ready: what a step of the loop reads: nothing is sliced, cast or collected
      inside the loop.
    head: [D, V] cut to the tokenizer's words.
  """

  model: Model
  params: Params
  ready: Params
  head: Array

  def logits(self, hidden: Array) -> Array:
    """Returns f32[..., V]; padded columns of the head are never drawn."""
    return jnp.einsum(
      "...d,dv->...v",
      hidden,
      self.head.astype(hidden.dtype),
      preferred_element_type=jnp.float32,
    )

  def prefill(self, prompts: Prompts) -> tuple[Array, Prefix]:
    """Returns (last state [N, D], prefix)."""
    return self.model.prefill(self.params, prompts)

  def read(
    self, prefix: Prefix, cache: Any, tokens: Array, step: Array | int
  ) -> tuple[Array, Any]:
    """Reads tokens i32[N, G, U]; returns (hidden [N, G, U, D], cache)."""
    return self.model.decode(self.ready, prefix, cache, tokens, step)

  def decoder(self, prefix: Prefix):
    """Returns the sampler's `Decode`: one token in, the next logits out."""

    def decode(tokens, step, cache):
      hidden, cache = self.read(prefix, cache, tokens[..., None], step)
      return self.logits(hidden[:, :, 0]), cache

    return decode


def make_policy(model: Model, params: Params, vocab_size: int) -> Policy:
  """Returns the policy; call it inside the traced function, before loops."""
  params = model.unstack(params)
  ready = model.decoding(params)
  return Policy(model, params, ready, model.head(ready)[:, :vocab_size])
