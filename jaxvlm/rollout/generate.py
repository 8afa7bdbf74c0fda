"""Group rollouts: a prompt is computed once and read by its G completions."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvlm.rollout.policy import make_policy
from jaxvlm.sampling import (
  Decoding,
  Samples,
  Sampling,
  completion_keys,
  end_tokens,
  sample_loop,
)
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
  ends: np.ndarray | None = None,
) -> Generate:
  """Returns a jitted function that samples `group` completions per prompt.

  Layers are unstacked once outside the loop, and the cache of completions is
  the loop's own state; the prompt's keys and values are never repeated. The
  key may be one for all prompts or one [N] for each.

  Args:
    model: functions of the policy.
    group: G, at least 1.
    sampling: the rules.
    max_new_tokens: T.
    eos_ids: tokens that end a completion.
    pad_id: written behind the end.
    vocab_size: the tokenizer's; padded columns of the head are never drawn.
    ends: automaton of ends (stop strings), instead of `eos_ids`.
  """
  rules = make_rules(
    sampling=sampling,
    max_new_tokens=max_new_tokens,
    eos_ids=eos_ids,
    pad_id=pad_id,
    vocab_size=vocab_size,
    ends=ends,
  )
  need(group >= 1, "group", group)

  def generate(
    params: Params, prompts: Prompts, key: Array, prompt_ids: Array
  ) -> Samples:
    policy = make_policy(model, params, vocab_size)
    last, prefix = policy.prefill(prompts)
    first = policy.logits(last)[:, None]
    return sample_loop(
      policy.decoder(prefix),
      jnp.broadcast_to(first, (len(last), group, vocab_size)),
      model.init_cache(prefix, group, max(max_new_tokens - 1, 1)),
      completion_keys(key, prompt_ids, group),
      rules,
    )

  return jax.jit(generate)


def make_rules(
  *,
  sampling: Sampling,
  max_new_tokens: int,
  eos_ids: Sequence[int],
  pad_id: int,
  vocab_size: int,
  ends: np.ndarray | None = None,
) -> Decoding:
  """Returns the sampler's rules.

  Args: as `make_generate`.

  Raises:
    ValueError: a length below 1, an end token outside the vocabulary, an
      automaton of another vocabulary.
  """
  need(max_new_tokens >= 1, "max_new_tokens", max_new_tokens)
  if ends is None:
    if isinstance(eos_ids, str | int):
      raise ValueError(
        f"eos_ids is {eos_ids!r}, expected a sequence of token ids; put it in"
        " brackets"
      )
    wrong = [i for i in eos_ids if not 0 <= i < vocab_size]
    if wrong:
      raise ValueError(
        f"eos_ids {wrong} lie outside the vocabulary of {vocab_size} tokens:"
        " take them from the model's own tokenizer"
      )
    ends = end_tokens(eos_ids, vocab_size)
  if ends.ndim != 2 or ends.shape[1] != vocab_size:
    raise ValueError(
      f"ends has shape {ends.shape}, expected (states, {vocab_size}): build it"
      " with the tokenizer whose size is vocab_size"
    )
  return Decoding(sampling, max_new_tokens, pad_id, ends)


def need(ok: bool, name: str, found: int | None) -> None:
  """Raises ValueError unless a size is positive."""
  if not ok:
    raise ValueError(f"generate: {name} is {found}, expected at least 1")
