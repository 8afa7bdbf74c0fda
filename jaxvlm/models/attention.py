"""Attention: who may look at what, and which implementation computes it.

Keys come in blocks. A block says which queries see it either by a dense mask
(decode steps, windows) or by `Segments`, from which every implementation
derives what it needs: dense masks, or the static tiles of a TPU kernel. One
place, `attend`, chooses by the platform that the program is traced for:

  splash   TPU: scores never leave the chip's fast memory
  cudnn    GPU, 16-bit: the same, with the mask as a bias
  plain    everything else, and whatever has a dense mask
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_kernel as kernels,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_mask as masks,
)
from jax.sharding import PartitionSpec as P

from jaxvlm import sharding

Array = jax.Array

# Large and finite: a row that may attend to nothing (a padded query) gets a
# uniform softmax instead of NaN, whose gradient would poison everything.
_MASKED = -1e30
_LANES = 128  # sequences in the kernel are cut into multiples of it
_TILE = 1024  # at most; larger ones overflow the 16 MiB scratch of a v5e
_EXACT = ("high", "highest", "float32", "tensorfloat32")
_STEP_BITS = 16  # a query's group and step share one int32


class Segments(NamedTuple):
  """Queries see the keys of their own segment.

  The queries' own keys are the last block of `attend`, so their segments are
  the ids there. Id -1 is empty: no query of another id sees it, and what a
  query of id -1 gets is unspecified, finite, and must not be read.

  Attributes:
    ids: i32[N, S] one id a key.
    causal: whether query t sees keys up to t only, of a block with as many
      keys as there are queries; else all of the block.
  """

  ids: Array
  causal: bool = False


class Block(NamedTuple):
  """Keys and values that queries may look at.

  Attributes:
    k: [N, g, S, K, d]; g = 1 is shared by all G completions of a prompt.
    v: as k.
    mask: Segments, if the last block has them too; or bool, broadcastable to
      [N, G, Q, S], True where a query may look.
  """

  k: Array
  v: Array
  mask: Segments | Array


# (q [N, G, Q, H, d], *blocks) -> [N, G, Q, H, d]
Attend = Callable[..., Array]


def attend(q: Array, *blocks: Block) -> Array:
  """Softmax attention over the union of several blocks of keys.

    out = Σ_b Σ_s exp(q·k_bs/√d − m) v_bs / Σ_b Σ_s exp(q·k_bs/√d − m)

  The implementation follows from the masks and from the platform of the mesh
  of `jax.set_mesh`, else of the default backend: a mesh of a TPU topology
  gives the TPU's program on a machine without one.

  Args:
    q: [N, G, Q, H, d]; H is a multiple of the kv heads K.
    *blocks: at least one Block.

  Returns:
    [N, G, Q, H, d] in the dtype of `q`.
  """
  return _choose(q, blocks)(q, *blocks)


def _choose(q: Array, blocks: tuple[Block, ...]) -> Attend:
  if not q.size:  # completions of one token: nothing has been read
    return plain
  if not all(isinstance(block.mask, Segments) for block in blocks):
    return plain
  device = jax.sharding.get_abstract_mesh().abstract_device
  platform = jax.default_backend() if device is None else device.platform
  if platform == "tpu":
    return splash
  if platform == "gpu" and _fits_cudnn(q):
    return cudnn
  return plain


# Plain XLA -------------------------------------------------------------------


def plain(q: Array, *blocks: Block) -> Array:
  """`attend` with scores in memory.

  A block with g = 1 is multiplied once for all completions of a prompt: its
  keys are read once per prompt, which is what makes a shared prefix cheap.
  """
  n, g, t, heads, d = q.shape
  kv_heads = blocks[0].k.shape[3]
  q = (q * d**-0.5).reshape(n, g, t, kv_heads, heads // kv_heads, d)
  own = blocks[-1].mask
  scores = [_scores(q, block, _dense(block.mask, own)) for block in blocks]
  top = functools.reduce(
    jnp.maximum, (s.max(-1, keepdims=True, initial=_MASKED) for s in scores)
  )
  weights = [jnp.exp(s - jax.lax.stop_gradient(top)) for s in scores]
  total = sum(w.sum(-1, keepdims=True) for w in weights)
  out = sum(
    _mix((w / total).astype(q.dtype), b.v)
    for w, b in zip(weights, blocks, strict=True)
  )
  return out.reshape(n, g, t, heads, d)


def _dense(mask: Segments | Array, own: Segments | Array) -> Array:
  """Returns a mask, broadcastable to [N, G, Q, S], of a block.

  causal, ids 0 0 0:   1 . .     ids 0 0 1:   1 1 .     ids -1 0 0:   . . .
                       1 1 .                  1 1 .                   . 1 1
                       1 1 1                  . . 1                   . 1 1
  """
  if not isinstance(mask, Segments):
    return mask
  queries, keys = own.ids[:, :, None], mask.ids[:, None, :]
  seen = (queries == keys) & (keys >= 0)
  if mask.causal:
    seen &= jnp.tril(jnp.ones(seen.shape[1:], bool))
  return seen[:, None]


def _scores(q: Array, block: Block, mask: Array) -> Array:
  """Returns masked f32 scores [N, K, R, G, Q, S] of one block."""
  if block.k.shape[1] == 1:
    subscripts, k = "ngtkrd,nskd->nkrgts", block.k[:, 0]
  else:
    subscripts, k = "ngtkrd,ngskd->nkrgts", block.k
  s = jnp.einsum(subscripts, q, k, preferred_element_type=jnp.float32)
  return jnp.where(mask[:, None, None], s, _MASKED)


def _mix(weights: Array, v: Array) -> Array:
  """Returns the weighted values [N, G, Q, K, R, d]."""
  if v.shape[1] == 1:
    return jnp.einsum("nkrgts,nskd->ngtkrd", weights, v[:, 0])
  return jnp.einsum("nkrgts,ngskd->ngtkrd", weights, v)


# TPU -------------------------------------------------------------------------


def splash(q: Array, *blocks: Block, interpret: bool = False) -> Array:
  """`attend` by the splash kernel; every mask is Segments.

  The completions of a prompt are one row of G · Q queries and S + G · T keys.
  Which tiles of it hold anything is static: those of other completions and of
  the future cost nothing. Segments hide the padding inside the rest. Under a
  mesh, every device computes its prompts and heads.

  Args:
    q: as `attend`.
    *blocks: as `attend`.
    interpret: run the kernel's program on the CPU (tests).

  Raises:
    ValueError: 16-bit queries under a higher matmul precision, for which the
      TPU's compiler has no instruction and a message that names none.
  """
  precision = jax.config.jax_default_matmul_precision
  if q.dtype.itemsize == 2 and precision in _EXACT and not interpret:
    raise ValueError(
      f"jax_default_matmul_precision is {precision!r} with {q.dtype} queries,"
      " expected 'default': a TPU multiplies 16-bit numbers in one way only."
      " Compute in float32 (dtype) or leave the setting alone"
    )
  n, g, t, heads, d = q.shape
  reach = _Reach.of(g, t, blocks)
  rows, columns = reach.shape
  k, v, key_ids = _joined(blocks, columns)
  query_ids = _padded(jnp.tile(blocks[-1].mask.ids, (1, g)), rows, -1)
  q = (q * d**-0.5).swapaxes(1, 3).swapaxes(2, 3).reshape(n, heads, g * t, d)
  q = _padded(q, rows)
  k, v = (x.swapaxes(1, 2) for x in (k, v))

  run = functools.partial(_run_splash, reach, interpret)
  out = _on_shards(run)(q, k, v, query_ids, key_ids)
  out = out[:, :, : g * t].reshape(n, heads, g, t, d)
  return out.transpose(0, 2, 3, 1, 4)


def _joined(blocks: tuple[Block, ...], columns: int):
  """Returns k, v [N, columns, K, d] and ids [N, columns] of all blocks."""
  flat = lambda x: x.reshape(x.shape[0], -1, *x.shape[3:])  # noqa: E731
  k = jnp.concatenate([flat(block.k) for block in blocks], axis=1)
  v = jnp.concatenate([flat(block.v) for block in blocks], axis=1)
  ids = jnp.concatenate(
    [jnp.tile(b.mask.ids, (1, b.k.shape[1])) for b in blocks], axis=1
  )
  pad = ((0, 0), (0, columns - k.shape[1]), (0, 0), (0, 0))
  return jnp.pad(k, pad), jnp.pad(v, pad), _padded(ids, columns, -1)


def _padded(x: Array, length: int, value: int = 0) -> Array:
  """Returns `x` [N, S] or [N, H, S, d] with S grown to `length`."""
  axis = 1 if x.ndim == 2 else 2
  pad = [(0, 0)] * x.ndim
  pad[axis] = (0, length - x.shape[axis])
  return jnp.pad(x, pad, constant_values=value)


def _tile(length: int) -> int:
  """Returns the tile: multiples of it waste little and stay in `_TILE`."""
  count = math.ceil(length / _TILE)
  return math.ceil(length / count / _LANES) * _LANES


def _grown(length: int, tile: int) -> int:
  return math.ceil(length / tile) * tile


class _Span(NamedTuple):
  """Static part of one block: where its keys lie in the joined row."""

  start: int
  length: int
  causal: bool
  own: bool  # one stretch of `length` keys per completion


@dataclasses.dataclass(frozen=True)
class _Reach(masks.Mask):
  """Static mask of the G · Q queries of a prompt against all its keys.

  Two completions of 2 tokens after a prompt of 3:

                           prompt   own of 0   own of 1
    completion 0, step 0   x x x    x .        . .
    completion 0, step 1   x x x    x x        . .
    completion 1, step 0   x x x    . .        x .
    completion 1, step 1   x x x    . .        x x

  The kernel computes it from one integer a query and the key's index
  (`mask_function`, `q_sequence`), so that no mask is stored.

  Attributes:
    group: G.
    steps: Q, the queries of a completion.
    spans: of the blocks of keys, in their order.
    lengths: numbers of queries and of keys.
    tiles: queries and keys that the kernel works on at once.
    padded: lengths, grown to whole tiles.
  """

  group: int
  steps: int
  spans: tuple[_Span, ...]
  lengths: tuple[int, int]
  tiles: tuple[int, int]
  padded: tuple[int, int]

  @classmethod
  def of(cls, group: int, steps: int, blocks: tuple[Block, ...]) -> "_Reach":
    if steps >> _STEP_BITS or group >> (31 - _STEP_BITS):
      raise ValueError(
        f"{group} completions of {steps} tokens, expected fewer than"
        f" {1 << (31 - _STEP_BITS)} of fewer than {1 << _STEP_BITS}:"
        " shorten the rows"
      )
    spans, keys = [], 0
    for block in blocks:
      copies, length = block.k.shape[1:3]
      spans.append(_Span(keys, length, block.mask.causal, copies > 1))
      keys += copies * length
    lengths = group * steps, keys
    tiles = _tile(lengths[0]), _tile(lengths[1])
    padded = _grown(lengths[0], tiles[0]), _grown(lengths[1], tiles[1])
    return cls(group, steps, tuple(spans), lengths, tiles, padded)

  @property
  def shape(self) -> tuple[int, int]:
    return self.padded

  @property
  def q_sequence(self) -> np.ndarray:
    """Returns (completion, step) of every row as one i32; padded rows look
    where the last one looks, for a row without keys divides by zero."""
    row = np.minimum(np.arange(self.shape[0]), self.group * self.steps - 1)
    group, step = np.divmod(row, self.steps)
    return ((group << _STEP_BITS) | step).astype(np.int32)

  def mask_function(self, query, key):
    """Returns whether `query` (of `q_sequence`) may look at index `key`."""
    group, step = query >> _STEP_BITS, query & ((1 << _STEP_BITS) - 1)
    seen = None
    for span in self.spans:
      index = key - span.start
      if span.own:
        index = index - group * span.length
      here = index <= (step if span.causal else span.length - 1)
      if span.start or span.own:
        here = here & (index >= 0)
      seen = here if seen is None else seen | here
    return seen

  def __getitem__(self, index) -> np.ndarray:
    rows, columns = index
    key = np.arange(self.shape[1], dtype=np.int32)
    return self.mask_function(self.q_sequence[rows, None], key[None, columns])

  def mask(self) -> masks.Mask:
    """Returns what the kernel takes; a full mask needs no comparisons."""
    first = self.spans[0]
    if len(self.spans) == 1 and not (first.causal or first.own):
      return masks.FullMask(self.shape)
    return self


def _run_splash(reach: _Reach, interpret: bool, q, k, v, query_ids, key_ids):
  """Returns [N, H, rows, d] of q [N, H, rows, d] and k, v [N, K, columns, d].

  All arguments are one device's share.
  """
  tile_q, tile_k = reach.tiles
  kernel = kernels.make_splash_mha(
    masks.MultiHeadMask([reach.mask()] * q.shape[1]),
    block_sizes=kernels.BlockSizes(
      block_q=tile_q,
      block_kv=tile_k,
      block_q_dkv=tile_q,
      block_kv_dkv=tile_k,
      block_q_dq=tile_q,
      block_kv_dq=tile_k,
    ),
    head_shards=1,
    q_seq_shards=1,
    interpret=interpret,
  )
  segments = kernels.SegmentIds(query_ids, key_ids)
  return jax.vmap(kernel)(q, k, v, segments)


def _on_shards(run: Callable[..., Array]) -> Callable[..., Array]:
  """Returns `run` with prompts and heads spread over the mesh in force.

  XLA cannot cut a kernel by itself. Axes that do not divide stay whole; kv
  heads fewer than devices along `tensor` are repeated just as often as needed.
  """

  def spread(q, k, v, query_ids, key_ids):
    parts = sharding.fit(q.shape[:2], sharding.ROWS, "tensor")
    if parts is None:
      return run(q, k, v, query_ids, key_ids)
    mesh = jax.sharding.get_abstract_mesh()
    if parts[1]:
      repeats = mesh.shape["tensor"]
      repeats //= math.gcd(k.shape[1], repeats)
      if q.shape[1] % (k.shape[1] * repeats) == 0:
        k, v = (jnp.repeat(x, repeats, axis=1) for x in (k, v))
      else:
        parts = P(parts[0], None)
    by_row = P(parts[0])
    return jax.shard_map(
      run,
      in_specs=(parts, parts, parts, by_row, by_row),
      out_specs=parts,
      check_vma=False,  # kernels do not say over which axes they vary
    )(q, k, v, query_ids, key_ids)

  return spread


# GPU -------------------------------------------------------------------------


def cudnn(
  q: Array, *blocks: Block, implementation: str | None = "cudnn"
) -> Array:
  """`attend` by cuDNN; every mask is Segments.

  Every completion is a row of its own with the prompt's keys copied: the
  kernel knows no sharing, but its scores are never stored. The mask is a bias
  [N · G, 1, Q, S] shared by the heads.

  Args:
    q: as `attend`.
    *blocks: as `attend`.
    implementation: of `jax.nn.dot_product_attention` (tests).
  """
  n, g, t, heads, d = q.shape
  own = blocks[-1].mask
  rows = n * g

  def joined(name):
    parts = [getattr(block, name) for block in blocks]
    parts = [jnp.broadcast_to(x, (n, g, *x.shape[2:])) for x in parts]
    x = jnp.concatenate(parts, axis=2)
    return x.reshape(rows, *x.shape[2:])

  k, v = joined("k"), joined("v")
  mask = jnp.concatenate([_dense(b.mask, own) for b in blocks], axis=-1)
  mask = jnp.broadcast_to(mask, (n, g, *mask.shape[2:]))
  mask = mask.reshape(rows, 1, *mask.shape[2:])
  q = q.reshape(rows, t, heads, d)
  # With a bias, cuDNN has a backward pass for even lengths only.
  more_q, more_k = (0, t % 2), (0, k.shape[1] % 2)
  q = jnp.pad(q, ((0, 0), more_q, (0, 0), (0, 0)))
  k, v = (jnp.pad(x, ((0, 0), more_k, (0, 0), (0, 0))) for x in (k, v))
  mask = jnp.pad(mask, ((0, 0), (0, 0), more_q, more_k))
  out = jax.nn.dot_product_attention(
    q, k, v, mask=mask, implementation=implementation
  )
  return out[:, :t].reshape(n, g, t, heads, d)


def _fits_cudnn(q: Array) -> bool:
  """Whether cuDNN's kernel exists for these queries on this GPU."""
  # "8.0" and later; AMD's are names.
  capability = getattr(jax.local_devices()[0], "compute_capability", "")
  generation = capability.split(".")[0]
  d = q.shape[-1]
  return (
    q.dtype in (jnp.bfloat16, jnp.float16)
    and d <= 128
    and d % 8 == 0
    and generation.isdigit()
    and int(generation) >= 8
  )
