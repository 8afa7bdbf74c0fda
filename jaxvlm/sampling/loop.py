"""The decode loop: one `while_loop` with early exit and exact statistics.

Log-probability and entropy come from the very logits that the token is drawn
from, over the whole vocabulary at the sampling temperature, before top-k,
top-p and min-p. Every completion has its own key and folds in the position,
so what it says depends on no neighbor and no slot.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxvlm.sampling.logits import Sampling, truncate

# (tokens i32[N, G], step i32[], cache) -> (logits f32[N, G, V], cache)
Decode = Callable[[Array, Array, Any], tuple[Array, Any]]


class Samples(NamedTuple):
  """Completions with their statistics; 0 behind the mask.

  Attributes:
    tokens: i32[N, G, T], `pad_id` behind the end.
    mask: bool[N, G, T] up to and including the end of the turn.
    finished: bool[N, G] whether the end was reached.
    logprobs: f32[N, G, T] of the tokens, whole vocabulary, at the temperature.
    entropies: f32[N, G, T] of that distribution, nats.
    top1: f32[N, G, T] its largest probability.
    sampling_logprobs: f32[N, G, T] under the truncated distribution.
  """

  tokens: Array
  mask: Array
  finished: Array
  logprobs: Array
  entropies: Array
  top1: Array
  sampling_logprobs: Array


def completion_keys(key: Array, prompt_ids: Array, group: int) -> Array:
  """Returns keys [N, G] folded from prompt id and sample number.

  Args:
    key: a typed key of the step.
    prompt_ids: i32[N] ids that are unique within the step.
    group: G.
  """
  fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
  per_prompt = fold(key, prompt_ids)
  return jax.vmap(fold, in_axes=(0, None))(per_prompt, jnp.arange(group))


def draw(
  keys: Array, logits: Array, position: Array, sampling: Sampling
) -> tuple[Array, dict[str, Array]]:
  """Draws one token per completion and measures the distribution.

  Args:
    keys: typed keys [N, G].
    logits: f32[N, G, V] as the model gives them.
    position: i32[] position in the completion.
    sampling: the rules.

  Returns:
    (tokens i32[N, G], statistics f32[N, G] by field name of `Samples`).
  """
  greedy = sampling.temperature == 0
  scaled = logits if greedy else logits / sampling.temperature
  logp = jax.nn.log_softmax(scaled, axis=-1)
  prob = jnp.exp(logp)
  truncated = sampling.truncates and not greedy
  kept = truncate(scaled, sampling) if truncated else scaled
  if greedy:
    tokens = jnp.argmax(scaled, axis=-1)
  else:
    noise = jax.vmap(
      jax.vmap(
        lambda key: jax.random.gumbel(
          jax.random.fold_in(key, position), logits.shape[-1:]
        )
      )
    )(keys)
    tokens = jnp.argmax(kept + noise, axis=-1)

  def at(x):
    return jnp.take_along_axis(x, tokens[..., None], axis=-1)[..., 0]

  sampled = jax.nn.log_softmax(kept, axis=-1) if truncated else logp
  # p log p -> 0 where p underflows to 0 and log p may be −inf.
  entropy = -jnp.sum(jnp.where(prob > 0, prob * logp, 0.0), axis=-1)
  return tokens.astype(jnp.int32), {
    "logprobs": at(logp),
    "entropies": entropy,
    "top1": jnp.max(prob, axis=-1),
    "sampling_logprobs": at(sampled),
  }


class _State(NamedTuple):
  step: Array
  done: Array
  logits: Array
  cache: Any
  out: dict[str, Array]


def sample_loop(
  decode: Decode,
  logits: Array,
  cache: Any,
  keys: Array,
  *,
  sampling: Sampling,
  max_new_tokens: int,
  eos_ids: Sequence[int],
  pad_id: int,
) -> Samples:
  """Draws completions until all have ended or are full.

  Args:
    decode: reads one token of every completion, gives the next logits.
    logits: f32[N, G, V] for the first token.
    cache: what `decode` carries along.
    keys: typed keys [N, G], one per completion (`completion_keys`).
    sampling: the rules.
    max_new_tokens: T.
    eos_ids: tokens that end a completion; they belong to it.
    pad_id: written behind the end.
  """
  n, g, _ = logits.shape
  shape = (n, g, max_new_tokens)
  ends = jnp.array(tuple(eos_ids), jnp.int32)
  names = ("logprobs", "entropies", "top1", "sampling_logprobs")
  out = {name: jnp.zeros(shape) for name in names}
  out["tokens"] = jnp.full(shape, pad_id, jnp.int32)
  out["mask"] = jnp.zeros(shape, bool)
  start = _State(
    step=jnp.zeros((), jnp.int32),
    done=jnp.zeros((n, g), bool),
    logits=logits,
    cache=cache,
    out=out,
  )

  def running(s: _State):
    return (s.step < max_new_tokens) & ~jnp.all(s.done)

  def body(s: _State) -> _State:
    tokens, stats = draw(keys, s.logits, s.step, sampling)
    live = ~s.done
    tokens = jnp.where(live, tokens, pad_id)
    column = {
      "tokens": tokens,
      "mask": live,
      **{name: jnp.where(live, x, 0.0) for name, x in stats.items()},
    }
    out = {
      name: jax.lax.dynamic_update_index_in_dim(x, column[name], s.step, 2)
      for name, x in s.out.items()
    }
    done = s.done | (tokens[..., None] == ends).any(-1)
    logits, cache = decode(tokens, s.step, s.cache)
    return _State(s.step + 1, done, logits, cache, out)

  end = jax.lax.while_loop(running, body, start)
  return Samples(finished=end.done, **end.out)
