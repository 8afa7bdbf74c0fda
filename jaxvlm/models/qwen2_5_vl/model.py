"""Qwen2.5-VL as pure functions: forward, prefill, decode, head.

`bind(config)` closes over the configuration and nothing else: policy,
reference and teacher are the same functions on different parameter trees.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvlm import sharding
from jaxvlm.models import attention, layers
from jaxvlm.models import cache as caches
from jaxvlm.models.cache import Prefix
from jaxvlm.models.qwen2_5_vl import partition, text, vision
from jaxvlm.models.qwen2_5_vl.config import Config
from jaxvlm.models.remat import Remat, rematerialize
from jaxvlm.typing import Batch, Model, Params, Prompts

Array = jax.Array


def bind(
  config: Config,
  *,
  dtype: Any = jnp.float32,
  remat: Remat = Remat.NONE,
  attend: attention.Attend = attention.attend,
) -> Model:
  """Returns the model's functions for one configuration.

  Args:
    config: the architecture.
    dtype: compute dtype; parameters keep theirs, softmax and norms are f32.
    remat: what a layer keeps for its backward pass.
    attend: attention over whole rows; the default follows the platform.
  """
  f = functools.partial
  return Model(
    forward=f(forward, config, dtype=dtype, remat=remat, attend=attend),
    prefill=f(prefill, config, dtype=dtype, attend=attend),
    init_cache=init_cache,
    decode=f(decode, config, dtype=dtype),
    head=f(head, config),
    unstack=unstack,
    decoding=f(decoding, config, dtype=dtype),
  )


def init(config: Config, key: Array) -> Params:
  """Returns random parameters, normal(0, initializer_range), f32."""
  vision_key, text_key = jax.random.split(key)
  return {
    "visual": vision.init(config.vision, vision_key),
    "model": text.init(config, text_key),
  }


def init_sharded(config: Config, key: Array, mesh: jax.sharding.Mesh) -> Params:
  """Returns the parameters of `init`, made in pieces on a mesh."""
  start = functools.partial(init, config)
  shapes = jax.eval_shape(start, key)
  places = sharding.partition(mesh, shapes, partition.RULES)
  return jax.jit(start, out_shardings=places)(key)


def head(config: Config, params: Params) -> Array:
  """Returns the output projection [D, V]; the embedding if tied."""
  if config.tie_word_embeddings:
    return params["model"]["embed_tokens"].T
  return params["model"]["lm_head"]


def unstack(params: Params) -> Params:
  """Returns the same parameters with every layer stack as a tuple."""
  visual, decoder = params["visual"], params["model"]
  return {
    "visual": {**visual, "blocks": layers.unstack(visual["blocks"])},
    "model": {**decoder, "layers": layers.unstack(decoder["layers"])},
  }


def decoding(
  config: Config, params: Params, *, dtype: Any = jnp.float32
) -> Params:
  """Returns what `decode` and `head` read, ready for a loop over them.

  Decoder layers and the output projection in the compute type and whole along
  `fsdp`; left as they lie, every step of the loop would collect them again.
  """
  decoder = dict(params["model"])
  decoder["layers"] = tuple(
    partition.layer(layers.cast(weights, dtype), dtype)
    for weights in layers.unstack(decoder["layers"])
  )
  name = "embed_tokens" if config.tie_word_embeddings else "lm_head"
  decoder[name] = partition.whole_head(name, decoder[name].astype(dtype))
  return {"model": decoder}


def embed_prompts(
  config: Config,
  params: Params,
  prompts: Prompts,
  *,
  dtype: Any = jnp.float32,
  remat: Remat = Remat.NONE,
  attend: attention.Attend = attention.attend,
) -> Array:
  """Returns the decoder's input [N, 1, S, D]: text and merged image tokens."""
  table = params["model"]["embed_tokens"]
  x = partition.embed(table, prompts.tokens, dtype)
  if prompts.patches.shape[1] == 0:  # a batch without a single picture
    return x[:, None]
  _, merged = vision.encode(
    config.vision,
    params["visual"],
    prompts.patches,
    prompts.patch_segments,
    prompts.patch_positions,
    window_slots=config.layout.window_slots,
    dtype=dtype,
    remat=remat,
    attend=attend,
  )
  slots = prompts.image_slots[..., None]
  seen = jnp.take_along_axis(merged, jnp.maximum(slots, 0), axis=1)
  return jnp.where(slots >= 0, seen, x)[:, None]


def _prompt_context(prompts: Prompts) -> text.Context:
  """Causal attention of the prompt over its real tokens; keeps k and v."""
  seen = attention.Segments(_segments(prompts), causal=True)

  def context(k, v):
    return (attention.Block(k, v, seen),), (k, v)

  return context


def _segments(prompts: Prompts) -> Array:
  """Returns i32[N, S]: one segment of real tokens, the padding empty."""
  return jnp.where(prompts.mask, 0, -1)


def _last(x: Array, prompts: Prompts) -> Array:
  """Returns the state [N, D] at the last real token of every prompt."""
  s = prompts.mask.shape[1]
  last = s - 1 - jnp.argmax(prompts.mask[:, ::-1], axis=1)
  return jnp.take_along_axis(x[:, 0], last[:, None, None], axis=1)[:, 0]


def _norm(config: Config, params: Params, x: Array) -> Array:
  norm = layers.RMSNorm(config.rms_norm_eps)
  return norm.apply({"params": params["model"]["norm"]}, x)


def forward(
  config: Config,
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
  n, g, t = batch.tokens.shape
  layer = text.DecoderLayer(config, dtype, attend)
  read = batch.tokens[..., :-1]
  steps = prompts.next_position[:, None, None] + jnp.arange(t - 1)
  prompt_rope = text.rope(config, prompts.positions[:, :, None])
  rope = text.rope(config, jnp.broadcast_to(steps, (3, n, 1, t - 1)))
  seen = attention.Segments(_segments(prompts))
  # Completions are padded on the right only: no token sees what follows it.
  own = attention.Segments(jnp.zeros((n, t - 1), jnp.int32), causal=True)
  prompt_context = _prompt_context(prompts)

  def body(streams, weights):
    weights = partition.layer(weights, dtype)
    prompt, completion = streams
    prompt, (pk, pv) = layer.apply(
      {"params": weights}, prompt, prompt_rope, prompt_context
    )

    def context(k, v):
      prompt_block = attention.Block(pk, pv, seen)
      return (prompt_block, attention.Block(k, v, own)), None

    completion, _ = layer.apply({"params": weights}, completion, rope, context)
    return (prompt, completion), None

  # Rotary angles have a group axis of 1: broadcast over completions.
  streams = (
    embed_prompts(
      config, params, prompts, dtype=dtype, remat=remat, attend=attend
    ),
    partition.embed(params["model"]["embed_tokens"], read, dtype),
  )
  body = rematerialize(body, remat)
  (prompt, completion), _ = layers.over_layers(
    body, streams, params["model"]["layers"]
  )
  first = jnp.broadcast_to(
    _last(prompt, prompts)[:, None, None], (n, g, 1, prompt.shape[-1])
  )
  return _norm(config, params, jnp.concatenate([first, completion], axis=2))


def prompt_states(
  config: Config,
  params: Params,
  prompts: Prompts,
  *,
  keep: Callable[[Array, Any], Any] = lambda x, kv: kv,
  dtype: Any = jnp.float32,
  attend: attention.Attend = attention.attend,
) -> tuple[Array, Any]:
  """Runs the prompt stream.

  Args:
    config: the architecture.
    params: stacked or unstacked.
    prompts: N prompts.
    keep: (x [N, 1, S, D], (k, v)) of a layer -> what to return of it.
    dtype: compute dtype.
    attend: attention over whole rows.

  Returns:
    (states before the final norm [N, 1, S, D], what was kept of every layer).
  """
  layer = text.DecoderLayer(config, dtype, attend)
  rope = text.rope(config, prompts.positions[:, :, None])
  context = _prompt_context(prompts)

  def body(x, weights):
    weights = partition.layer(weights, dtype)
    x, kv = layer.apply({"params": weights}, x, rope, context)
    return x, keep(x, kv)

  x = embed_prompts(config, params, prompts, dtype=dtype, attend=attend)
  return layers.over_layers(body, x, params["model"]["layers"])


def prefill(
  config: Config,
  params: Params,
  prompts: Prompts,
  *,
  dtype: Any = jnp.float32,
  attend: attention.Attend = attention.attend,
) -> tuple[Array, Any]:
  """Returns (normed last state [N, D], prefix for `decode`)."""
  x, kept = prompt_states(config, params, prompts, dtype=dtype, attend=attend)
  last = _norm(config, params, _last(x, prompts))
  return last, Prefix(kept, prompts.mask, prompts.next_position)


def init_cache(prefix: Prefix, group: int, length: int) -> Any:
  """Returns zeroed keys and values [N, G, length, K, d] for every layer."""
  return caches.empty(prefix.prompt, group, length)


def decode(
  config: Config,
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
    config: the architecture.
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
  layer = text.DecoderLayer(config, dtype)
  x = partition.embed(params["model"]["embed_tokens"], tokens, dtype)
  past = 0 if prefix.own is None else prefix.own_length
  at = (prefix.next_position[:, None] + step + past)[..., None]
  at = at + jnp.arange(tokens.shape[-1])
  rope = text.rope(config, jnp.broadcast_to(at, (3, *at.shape)))
  column = jnp.arange(jax.tree.leaves(cache)[0].shape[-3])
  read = step + jnp.arange(tokens.shape[-1])
  written = (column <= read[:, None])[None, None]  # [1, 1, U, columns]
  prompt_mask = prefix.prompt_mask[:, None, None]
  own = () if prefix.own is None else (prefix.own,)

  def body(x, weights, prompt_kv, cache_kv, *own_kv):
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
      for kv in own_kv:
        seen = jnp.arange(kv[0].shape[2]) < prefix.own_length[..., None, None]
        blocks.append(attention.Block(*kv, seen))
      return tuple(blocks), (keys, values)

    return layer.apply({"params": weights}, x, rope, context)

  x, cache = layers.over_layers(
    body, x, params["model"]["layers"], prefix.prompt, cache, *own
  )
  return _norm(config, params, x), cache


def logits(config: Config, params: Params, batch: Batch) -> Array:
  """Returns f32[N, S, V] at the prompt's positions (small models, tests)."""
  x, _ = prompt_states(config, params, batch.prompts)
  x = _norm(config, params, x[:, 0])
  return jnp.einsum(
    "nsd,dv->nsv", x, head(config, params), preferred_element_type=jnp.float32
  )
