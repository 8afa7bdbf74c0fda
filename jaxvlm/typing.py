"""Shared types: the batch and the model as pure functions.

Shape letters, here and everywhere: N prompts, G completions per prompt,
S prompt tokens, T completion tokens, V vocabulary, D width, H query heads,
K kv heads, P patch slots, M merged image slots (P / merge²), L layers.

Nothing is imported at run time: the data room, which has no jax, fills the
same tuples with NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
  import jax
  import numpy as np

  Array: TypeAlias = jax.Array | np.ndarray

PyTree = Any
Params = PyTree


class Prompts(NamedTuple):
  """Prompts with their pictures; every prompt owns its patches.

  A model that reads text only has prompts whose fields of pictures are None:
  no array of them enters its programs.

  Attributes:
    tokens: i32[N, S] token ids, padded on the left by our pipeline (the model
      itself accepts padding on either side).
    mask: bool[N, S] True on real tokens.
    positions: i32[A, N, S] where tokens stand: A = 3 M-RoPE ids (time, height,
      width), or 1 where the model reads text only.
    next_position: i32[N] the position of the first completion token, alike on
      all axes.
    image_slots: i32[N, S] which of the M merged image slots stands at this
      token, -1 for text.
    patches: f32[N, P, C] flattened pixels in padded window order
      (`jaxvlm.data.layout`).
    patch_segments: i32[N, P] which picture of the row, -1 for an empty slot.
    patch_positions: i32[N, P, 2] (row, column) of the patch in its picture.
  """

  tokens: Array
  mask: Array
  positions: Array
  next_position: Array
  image_slots: Array | None = None
  patches: Array | None = None
  patch_segments: Array | None = None
  patch_positions: Array | None = None


class Batch(NamedTuple):
  """Prompts and their completions: one form for every objective.

  Attributes:
    prompts: Prompts of N rows.
    tokens: i32[N, G, T] completion tokens, right-padded.
    mask: bool[N, G, T] the tokens that count.
    segments: i32[N, T], with G = 1, of packed rows: 0 is what stands behind
      the prompt; 1, 2, … are rows that stand in the completion whole and read
      neither the prompt nor one another. None: all is the prompt's.
  """

  prompts: Prompts
  tokens: Array
  mask: Array
  segments: Array | None = None


class Model(NamedTuple):
  """A model as pure functions of its parameters.

  Attributes:
    forward: (params, batch) -> hidden [N, G, T, D]; `hidden[…, t]` predicts
      `tokens[…, t]`. The prompt is computed once for its G completions.
    prefill: (params, prompts) -> (hidden_last [N, D], prefix).
    init_cache: (prefix, group, length) -> empty cache of the completions.
    decode: (params, prefix, cache, tokens i32[N, G, U], step i32[]) ->
      (hidden [N, G, U, D], cache): reads U more tokens of every completion.
    head: params -> [D, V], the output projection.
    unstack: params -> params whose layers are tuples, sliced once, for
      machines on which a scan over layers does not pay, and for loops.
    decoding: unstacked params -> what `decode` and `head` read of them inside
      a loop, made ready outside: cast, and collected from the mesh. By default
      they read the parameters as they are.
  """

  forward: Callable[[Params, Batch], Array]
  prefill: Callable[[Params, Prompts], tuple[Array, PyTree]]
  init_cache: Callable[[PyTree, int, int], PyTree]
  decode: Callable[..., tuple[Array, PyTree]]
  head: Callable[[Params], Array]
  unstack: Callable[[Params], Params]
  decoding: Callable[[Params], Params] = lambda params: params
