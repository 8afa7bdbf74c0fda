"""What every decoder shares, as pure functions: forward, prefill, decode, head.

What is a family's own is passed in as one small value, `Decoder`; `bind` closes
over it and nothing else: policy, reference and teacher are the same functions
on different parameter trees.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxvlm.models import attention, layers, partition
from jaxvlm.models import cache as caches
from jaxvlm.models.cache import Prefix
from jaxvlm.models.decoder_layer import Context, DecoderConfig, DecoderLayer
from jaxvlm.models.remat import Remat, rematerialize
from jaxvlm.typing import Batch, Model, Params, Prompts

Array = jax.Array


class Embedded(NamedTuple):
  """What the prompts are when they enter the decoder.

  Attributes:
    x: [N, 1, S, D] the input of the first layer.
    gains: [K, N, 1, S, D] what is added to the outputs of the first K layers
      (DeepStack, arXiv:2406.04334); None where nothing is.
  """

  x: Array
  gains: Array | None = None


class Decoder(NamedTuple):
  """The decoder of one configuration, with what its family decides.

  Attributes:
    config: sizes.
    angles: positions i32[A, …] -> rotary angles f32[…, d / 2].
    embed: (params, prompts, *, dtype, remat, attend) -> the prompt stream's
      input.
    axes: A, the numbers that place a token: 3 for M-RoPE, otherwise 1.
    stacks: part of the parameters -> the name of the layers in it.
  """

  config: DecoderConfig
  angles: Callable[[Array], Array]
  embed: Callable[..., Embedded]
  axes: int
  stacks: Mapping[str, str]

  def rope(self, positions: Array) -> layers.Rotary:
    """Returns cos and sin of prompt positions i32[A, N, S], for all heads."""
    return layers.rotary(self.angles(positions[:, :, None]))

  def text_rope(self, at: Array) -> layers.Rotary:
    """Returns cos and sin of text at i32[N, …]; all axes advance as one."""
    at = jnp.broadcast_to(at, (self.axes, *at.shape))
    return layers.rotary(self.angles(at))


def bind(
  decoder: Decoder,
  *,
  dtype: Any = jnp.float32,
  remat: Remat = Remat.NONE,
  attend: attention.Attend = attention.attend,
) -> Model:
  """Returns the model's functions for one configuration.

  Args:
    decoder: sizes, and what is its family's own.
    dtype: compute dtype; parameters keep theirs, softmax and norms are f32.
    remat: what a layer keeps for its backward pass.
    attend: attention over whole rows; the default follows the platform.
  """
  f = functools.partial
  return Model(
    forward=f(forward, decoder, dtype=dtype, remat=remat, attend=attend),
    prefill=f(prefill, decoder, dtype=dtype, attend=attend),
    init_cache=init_cache,
    decode=f(decode, decoder, dtype=dtype),
    head=f(head, decoder),
    unstack=f(unstack, decoder),
    decoding=f(decoding, decoder, dtype=dtype),
  )


def head(decoder: Decoder, params: Params) -> Array:
  """Returns the output projection [D, V]; the embedding if tied."""
  if decoder.config.tie_word_embeddings:
    return params["model"]["embed_tokens"].T
  return params["model"]["lm_head"]


def unstack(decoder: Decoder, params: Params) -> Params:
  """Returns the same parameters with every layer stack as a tuple."""
  out = dict(params)
  for part, stack in decoder.stacks.items():
    out[part] = {**params[part], stack: layers.unstack(params[part][stack])}
  return out


def decoding(
  decoder: Decoder, params: Params, *, dtype: Any = jnp.float32
) -> Params:
  """Returns what `decode` and `head` read, ready for a loop over them.

  Decoder layers and the output projection in the compute type and whole along
  `fsdp`; left as they lie, every step of the loop would collect them again.
  """
  tree = dict(params["model"])
  tree["layers"] = tuple(
    partition.layer(layers.cast(weights, dtype), dtype)
    for weights in layers.unstack(tree["layers"])
  )
  name = "embed_tokens" if decoder.config.tie_word_embeddings else "lm_head"
  tree[name] = partition.whole_head(name, tree[name].astype(dtype))
  return {"model": tree}


def embed_text(
  params: Params,
  prompts: Prompts,
  *,
  dtype: Any,
  remat: Remat,
  attend: attention.Attend,
) -> Embedded:
  """Returns the rows of the embedding: `Decoder.embed` of text.

  What a tower would need, `remat` and `attend`, is not read.
  """
  table = params["model"]["embed_tokens"]
  return Embedded(partition.embed(table, prompts.tokens, dtype)[:, None])


def _numbers(stack: Any, gains: Array | None) -> tuple[Any, ...]:
  """Returns what `over_layers` takes beside the layers.

  Their numbers, where some of them have gains; otherwise nothing, so that the
  programs of other families stay what they are.
  """
  return () if gains is None else (layers.numbers(stack),)


def _raised(x: Array, gains: Array | None, number: Array | int | None) -> Array:
  """Returns the output `x` of layer `number` with its gain, if it has one."""
  if gains is None:
    return x
  if isinstance(number, int):
    return x + gains[number] if number < len(gains) else x
  gain = jax.lax.dynamic_index_in_dim(
    gains, jnp.minimum(number, len(gains) - 1), keepdims=False
  )
  return x + jnp.where(number < len(gains), gain, 0)


def _prompt_context(prompts: Prompts) -> Context:
  """Causal attention of the prompt over its real tokens; keeps k and v."""
  seen = attention.Segments(_segments(prompts), causal=True)

  def context(k, v):
    return (attention.Block(k, v, seen),), (k, v)

  return context


def _segments(prompts: Prompts) -> Array:
  """Returns i32[N, S]: one segment of real tokens, the padding empty."""
  return jnp.where(prompts.mask, 0, -1)


def _places(batch: Batch) -> tuple[Array, Array]:
  """Returns where the completion tokens that are read stand.

  Packed rows begin at position 0, as a prompt of text does.

  Returns:
    (segments i32[N, T - 1], positions i32[N, 1, T - 1], alike on all axes).
  """
  n, _, t = batch.tokens.shape
  step, after = jnp.arange(t - 1), batch.prompts.next_position[:, None]
  if batch.segments is None:
    return jnp.zeros((n, t - 1), jnp.int32), after[:, None] + step
  ids = batch.segments[:, :-1]
  before = jnp.pad(ids[:, :-1], ((0, 0), (1, 0)))
  start = jax.lax.cummax(jnp.where(ids != before, step, 0), axis=1)
  return ids, (step - start + jnp.where(ids, 0, after))[:, None]


def _last(x: Array, prompts: Prompts) -> Array:
  """Returns the state [N, D] at the last real token of every prompt."""
  s = prompts.mask.shape[1]
  last = s - 1 - jnp.argmax(prompts.mask[:, ::-1], axis=1)
  return jnp.take_along_axis(x[:, 0], last[:, None, None], axis=1)[:, 0]


def _norm(decoder: Decoder, params: Params, x: Array) -> Array:
  norm = layers.RMSNorm(decoder.config.rms_norm_eps)
  return norm.apply({"params": params["model"]["norm"]}, x)


def forward(
  decoder: Decoder,
  params: Params,
  batch: Batch,
  *,
  dtype: Any = jnp.float32,
  remat: Remat = Remat.NONE,
  attend: attention.Attend = attention.attend,
) -> Array:
  """Returns hidden states [N, G, T, D]; `[…, t]` predicts `tokens[…, t]`.

  Position 0 is the prompt's last state, which all completions share;
  position t > 0 has read completion token t - 1.
  """
  prompts = batch.prompts
  n, g, _ = batch.tokens.shape
  layer = DecoderLayer(decoder.config, dtype, attend)
  read = batch.tokens[..., :-1]
  ids, steps = _places(batch)
  prompt_rope = decoder.rope(prompts.positions)
  rope = decoder.text_rope(steps)
  seen = attention.Segments(_segments(prompts))
  # Completions are padded on the right only: no token sees what follows it.
  own = attention.Segments(ids, causal=True)
  prompt_context = _prompt_context(prompts)
  embedded = decoder.embed(
    params, prompts, dtype=dtype, remat=remat, attend=attend
  )

  def body(streams, weights, number=None):
    weights = partition.layer(weights, dtype)
    prompt, completion = streams
    prompt, (pk, pv) = layer.apply(
      {"params": weights}, prompt, prompt_rope, prompt_context
    )
    prompt = _raised(prompt, embedded.gains, number)

    def context(k, v):
      prompt_block = attention.Block(pk, pv, seen)
      return (prompt_block, attention.Block(k, v, own)), None

    completion, _ = layer.apply({"params": weights}, completion, rope, context)
    return (prompt, completion), None

  # Rotary angles have a group axis of 1: broadcast over completions.
  streams = (
    embedded.x,
    partition.embed(params["model"]["embed_tokens"], read, dtype),
  )
  stack = params["model"]["layers"]
  numbers = _numbers(stack, embedded.gains)
  # Python integers where layers are unrolled.
  static = (2,) if numbers and isinstance(stack, tuple) else ()
  body = rematerialize(body, remat, static_argnums=static)
  (prompt, completion), _ = layers.over_layers(body, streams, stack, *numbers)
  first = jnp.broadcast_to(
    _last(prompt, prompts)[:, None, None], (n, g, 1, prompt.shape[-1])
  )
  return _norm(decoder, params, jnp.concatenate([first, completion], axis=2))


def prompt_states(
  decoder: Decoder,
  params: Params,
  prompts: Prompts,
  *,
  keep: Callable[[Array, Any], Any] = lambda x, kv: kv,
  dtype: Any = jnp.float32,
  attend: attention.Attend = attention.attend,
) -> tuple[Array, Any]:
  """Runs the prompt stream.

  Args:
    decoder: of the family.
    params: stacked or unstacked.
    prompts: N prompts.
    keep: (x [N, 1, S, D], (k, v)) of a layer -> what to return of it.
    dtype: compute dtype.
    attend: attention over whole rows.

  Returns:
    (states before the final norm [N, 1, S, D], what was kept of every layer).
  """
  layer = DecoderLayer(decoder.config, dtype, attend)
  rope = decoder.rope(prompts.positions)
  context = _prompt_context(prompts)

  embedded = decoder.embed(
    params, prompts, dtype=dtype, remat=Remat.NONE, attend=attend
  )

  def body(x, weights, number=None):
    weights = partition.layer(weights, dtype)
    x, kv = layer.apply({"params": weights}, x, rope, context)
    x = _raised(x, embedded.gains, number)
    return x, keep(x, kv)

  stack = params["model"]["layers"]
  numbers = _numbers(stack, embedded.gains)
  return layers.over_layers(body, embedded.x, stack, *numbers)


def prefill(
  decoder: Decoder,
  params: Params,
  prompts: Prompts,
  *,
  dtype: Any = jnp.float32,
  attend: attention.Attend = attention.attend,
) -> tuple[Array, Any]:
  """Returns (normed last state [N, D], prefix for `decode`)."""
  x, kept = prompt_states(decoder, params, prompts, dtype=dtype, attend=attend)
  last = _norm(decoder, params, _last(x, prompts))
  return last, Prefix(kept, prompts.mask, prompts.next_position)


def init_cache(prefix: Prefix, group: int, length: int) -> Any:
  """Returns zeroed keys and values [N, G, length, K, d] for every layer."""
  return caches.empty(prefix.prompt, group, length)


def decode(
  decoder: Decoder,
  params: Params,
  prefix: Prefix,
  cache: Any,
  tokens: Array,
  step: Array | int,
  *,
  dtype: Any = jnp.float32,
) -> tuple[Array, Any]:
  """Reads U completion tokens and returns the states that predict the next.

  Args:
    decoder: of the family.
    params: stacked, or unstacked (faster inside a loop); the prefix and the
      cache have the same form.
    prefix: from `prefill`.
    cache: from `init_cache` or the last call.
    tokens: i32[N, G, U].
    step: i32[] column of the cache that the first of them takes; a
      completion's position is the length of its own past further.
    dtype: compute dtype.

  Returns:
    (normed hidden [N, G, U, D], cache).
  """
  layer = DecoderLayer(decoder.config, dtype)
  x = partition.embed(params["model"]["embed_tokens"], tokens, dtype)
  past = 0 if prefix.own is None else prefix.own_length
  at = (prefix.next_position[:, None] + step + past)[..., None]
  at = at + jnp.arange(tokens.shape[-1])
  rope = decoder.text_rope(at)
  column = jnp.arange(jax.tree.leaves(cache)[0].shape[-3])
  read = step + jnp.arange(tokens.shape[-1])
  written = (column <= read[:, None])[None, None]  # [1, 1, U, columns]
  prompt_mask = prefix.prompt_mask[:, None, None]

  def body(x, weights, prompt_kv, cache_kv, own_kv):
    def context(k, v):
      start = (0, 0, step, 0, 0)
      keys, values = (
        jax.lax.dynamic_update_slice(old, new, start)
        for old, new in zip(cache_kv, (k, v), strict=True)
      )
      blocks = [
        attention.Block(*prompt_kv, prompt_mask),
        attention.Block(keys, values, written),
      ]
      if own_kv is not None:
        width = own_kv[0].shape[2]
        seen = jnp.arange(width) < prefix.own_length[..., None, None]
        blocks.append(attention.Block(*own_kv, seen))
      return tuple(blocks), (keys, values)

    return layer.apply({"params": weights}, x, rope, context)

  x, cache = layers.over_layers(
    body, x, params["model"]["layers"], prefix.prompt, cache, prefix.own
  )
  return _norm(decoder, params, x), cache


def logits(decoder: Decoder, params: Params, batch: Batch) -> Array:
  """Returns f32[N, S, V] at the prompt's positions (small models, tests)."""
  x, _ = prompt_states(decoder, params, batch.prompts)
  x = _norm(decoder, params, x[:, 0])
  return jnp.einsum(
    "nsd,dv->nsv", x, head(decoder, params), preferred_element_type=jnp.float32
  )
