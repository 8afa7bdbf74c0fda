"""The decode loop: one `while_loop` with early exit and exact statistics.

Every completion has its own key and folds in the position, so what it says
depends on no neighbor and no slot. The loop runs a number of steps from a
state that it returns, so that a rollout can be one call, a stream of short
ones, or segments between which finished slots are filled again.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvlm.sampling.draw import Draw, draw
from jaxvlm.sampling.logits import Sampling

# (tokens i32[N, G], step i32[], cache) -> (logits f32[N, G, V], cache)
Decode = Callable[[Array, Array, Any], tuple[Array, Any]]


class Samples(NamedTuple):
  """Completions with their statistics; 0 behind the mask.

  Attributes:
    tokens: i32[N, G, T], `pad_id` behind the end.
    mask: bool[N, G, T] up to and including the end.
    finished: bool[N, G] whether an end token or a stop string was reached.
    logprobs: f32[N, G, T] of the tokens, whole vocabulary, at the temperature.
    entropies: f32[N, G, T] of that distribution, nats.
    top1: f32[N, G, T] its largest probability.
    sampling_logprobs: f32[N, G, T] under the truncated distribution.
    slot_steps: i32[] tokens that were computed, kept or not: `mask.sum()` over
      it is the share of useful work.
  """

  tokens: Array
  mask: Array
  finished: Array
  logprobs: Array
  entropies: Array
  top1: Array
  sampling_logprobs: Array
  slot_steps: Array | int = 0


class Decoding(NamedTuple):
  """How tokens are drawn and when a completion ends; static.

  Attributes:
    sampling: the distribution.
    max_new_tokens: T.
    pad_id: written behind the end.
    ends: integers [states, V], an automaton over tokens: the next state by
      state and token, from state 0; the last state is the end (`end_tokens`,
      or `jaxvlm.data.stops` for stop strings).
  """

  sampling: Sampling
  max_new_tokens: int
  pad_id: int
  ends: np.ndarray

  @property
  def vocab_size(self) -> int:
    return self.ends.shape[1]


def end_tokens(eos_ids: Sequence[int], vocab_size: int) -> np.ndarray:
  """Returns the automaton u8[2, V] that ends with any of the tokens."""
  ends = np.zeros((2, vocab_size), np.uint8)
  ends[0, list(eos_ids)] = 1
  ends[1] = 1
  return ends


class Lanes(NamedTuple):
  """Completions under way, one per slot.

  Attributes:
    keys: typed keys [N, G].
    tokens: i32[N, G] the last token drawn; the model has not read it yet.
    lengths: i32[N, G] tokens drawn so far.
    states: i32[N, G] of the automaton of ends.
    done: bool[N, G] ended, full, or empty.
  """

  keys: Array
  tokens: Array
  lengths: Array
  states: Array
  done: Array

  def where(self, mask: Array, other: "Lanes") -> "Lanes":
    """Returns these lanes where `mask`, `other` elsewhere; keys are these."""
    pairs = zip(self[1:], other[1:], strict=True)
    return Lanes(self.keys, *(jnp.where(mask, a, b) for a, b in pairs))


def begin(keys: Array, logits: Array, rules: Decoding) -> tuple[Lanes, Draw]:
  """Draws the first token of every completion.

  Args:
    keys: typed keys [N, G] (`completion_keys`).
    logits: f32[N, G, V].
    rules: see there.
  """
  zero = jnp.zeros(keys.shape, jnp.int32)
  lanes = Lanes(keys, zero, zero, zero, zero > 0)
  return _advance(lanes, logits, rules)


def _advance(
  lanes: Lanes, logits: Array, rules: Decoding
) -> tuple[Lanes, Draw]:
  """Draws one token of every running lane; 0 and `pad_id` in the others."""
  new = draw(lanes.keys, logits, lanes.lengths, rules.sampling)
  live = ~lanes.done
  new = jax.tree.map(lambda x: jnp.where(live, x, jnp.zeros_like(x)), new)
  tokens = jnp.where(live, new.tokens, rules.pad_id)
  states = follow(lanes.states, new.tokens, live, rules)
  lengths = lanes.lengths + live
  full = lengths >= rules.max_new_tokens
  done = lanes.done | reached(states, rules) | full
  lanes = Lanes(lanes.keys, tokens, lengths, states, done)
  return lanes, new._replace(tokens=tokens)


def follow(states: Array, tokens: Array, live: Array, rules: Decoding) -> Array:
  """Returns the automaton's states after one more token of the live lanes."""
  after = jnp.asarray(rules.ends)[states, tokens].astype(jnp.int32)
  return jnp.where(live, after, states)


def reached(states: Array, rules: Decoding) -> Array:
  """Returns bool: the automaton is at its end."""
  return states == rules.ends.shape[0] - 1


class _State(NamedTuple):
  count: Array
  lanes: Lanes
  cache: Any
  columns: Draw
  mask: Array


class Segment(NamedTuple):
  """What a number of steps gave.

  Attributes:
    lanes: afterwards.
    cache: afterwards.
    columns: the tokens drawn, [N, G, steps] each.
    mask: bool[N, G, steps] which of them were drawn.
    count: i32[] steps taken; fewer than asked when all lanes were done.
  """

  lanes: Lanes
  cache: Any
  columns: Draw
  mask: Array
  count: Array


def run_segment(
  decode: Decode,
  lanes: Lanes,
  cache: Any,
  rules: Decoding,
  *,
  steps: int,
  first: Array | int = 0,
) -> Segment:
  """Reads and draws up to `steps` tokens per lane, less if all are done.

  Args:
    decode: reads one token of every lane, gives the next logits.
    lanes: from `begin` or the segment before.
    cache: what `decode` carries along.
    rules: see there.
    steps: most tokens to draw per lane.
    first: i32[] step number that `decode` gets first.
  """
  shape = (*lanes.tokens.shape, steps)
  numbers = jnp.zeros(shape)
  start = _State(
    count=jnp.zeros((), jnp.int32),
    lanes=lanes,
    cache=cache,
    columns=Draw(jnp.full(shape, rules.pad_id, jnp.int32), *[numbers] * 4),
    mask=jnp.zeros(shape, bool),
  )

  def running(s: _State):
    return (s.count < steps) & ~jnp.all(s.lanes.done)

  def body(s: _State) -> _State:
    live = ~s.lanes.done
    logits, cache = decode(s.lanes.tokens, first + s.count, s.cache)
    lanes, new = _advance(s.lanes, logits, rules)

    def put(column, value):
      return jax.lax.dynamic_update_index_in_dim(column, value, s.count, 2)

    columns = jax.tree.map(put, s.columns, new)
    return _State(s.count + 1, lanes, cache, columns, put(s.mask, live))

  end = jax.lax.while_loop(running, body, start)
  return Segment(end.lanes, end.cache, end.columns, end.mask, end.count)


def sample_loop(
  decode: Decode, logits: Array, cache: Any, keys: Array, rules: Decoding
) -> Samples:
  """Draws completions until all have ended or are full.

  Args:
    decode: reads one token of every completion, gives the next logits.
    logits: f32[N, G, V] for the first token.
    cache: what `decode` carries along.
    keys: typed keys [N, G], one per completion (`completion_keys`).
    rules: distribution, length, ends.
  """
  lanes, first = begin(keys, logits, rules)
  length = rules.max_new_tokens
  # The last token is drawn and never read; a loop of no steps has no shape.
  rest = run_segment(decode, lanes, cache, rules, steps=max(length - 1, 1))

  def join(first, rest):
    return jnp.concatenate([first[..., None], rest], -1)[..., :length]

  return Samples(
    **jax.tree.map(join, first, rest.columns)._asdict(),
    mask=join(jnp.ones(keys.shape, bool), rest.mask),
    finished=reached(rest.lanes.states, rules),
    slot_steps=keys.size * (1 + rest.count),
  )
