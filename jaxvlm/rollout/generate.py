"""Group rollouts: a prompt is computed once and read by its G completions."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxvlm.sampling import Samples, Sampling, completion_keys, sample_loop
from jaxvlm.typing import Model, Params, Prompts

# (params, prompts, key, prompt ids i32[N]) -> Samples
Generate = Callable[[Params, Prompts, Array, Array], Samples]


def make_generate(
  model: Model,
  *,
  group: int,
  sampling: Sampling,
  max_new_tokens: int,
  eos_ids: Sequence[int],
  pad_id: int,
  vocab_size: int,
) -> Generate:
  """Returns a jitted function that samples `group` completions per prompt.

  Layers are unstacked once outside the loop, and the cache of completions is
  the loop's own state; the prompt's keys and values are never repeated.

  Args:
    model: functions of the policy.
    group: G, at least 1.
    sampling: the rules.
    max_new_tokens: T.
    eos_ids: tokens that end a completion.
    pad_id: written behind the end.
    vocab_size: the tokenizer's; padded columns of the head are never drawn.
  """
  if group < 1 or max_new_tokens < 1:
    raise ValueError(
      f"generate: group is {group} and max_new_tokens {max_new_tokens},"
      " expected at least 1 each"
    )

  def generate(
    params: Params, prompts: Prompts, key: Array, prompt_ids: Array
  ) -> Samples:
    params = model.unstack(params)
    head = model.head(params)[:, :vocab_size]

    def logits_of(hidden):
      return jnp.einsum(
        "ngd,dv->ngv",
        hidden,
        head.astype(hidden.dtype),
        preferred_element_type=jnp.float32,
      )

    last, prefix = model.prefill(params, prompts)
    first = logits_of(last[:, None])
    n, _, v = first.shape

    def decode(tokens, step, cache):
      hidden, cache = model.decode(params, prefix, cache, tokens, step)
      return logits_of(hidden), cache

    return sample_loop(
      decode,
      jnp.broadcast_to(first, (n, group, v)),
      model.init_cache(prefix, group, max_new_tokens),
      completion_keys(key, prompt_ids, group),
      sampling=sampling,
      max_new_tokens=max_new_tokens,
      eos_ids=eos_ids,
      pad_id=pad_id,
    )

  return jax.jit(generate)
