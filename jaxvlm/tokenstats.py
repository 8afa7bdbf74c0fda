"""Exact per-token statistics of a large vocabulary, without the logits.

Every objective here is a function of a few numbers per token: the target's
log-probability, the entropy, a divergence from a teacher. A chunk of logits is
made, measured and dropped, and made once more on the way back, where its
gradient has a closed form (`jaxvlm.logitstats`). What stays is a handful of
floats per token and the head's gradient, summed in float32.

Automatic differentiation of a checkpointed scan would do the same with the
head's gradient in the head's type, and would form it for a frozen head, too.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxvlm import headlayout
from jaxvlm.logitstats import Divergences, TokenStats, measure, pull_back

__all__ = ["TokenStats", "token_stats"]

# Bytes of logits per device: up to the first they are kept for the way back;
# beyond it they are made twice, in chunks of the second.
_KEPT_BYTES = 256 * 2**20
_CHUNK_BYTES = 64 * 2**20
_COLDEST = 1e-6


def token_stats(
  hidden: Array,
  head: Array,
  targets: Array,
  mask: Array,
  *,
  temperature: Array | float = 1.0,
  vocab_size: int | None = None,
  teacher_hidden: Array | None = None,
  teacher_head: Array | None = None,
  jsd_beta: float | None = None,
  top_k: int | None = None,
  total_variation: bool = False,
  chunk: int | None = None,
) -> TokenStats:
  """Returns exact statistics of softmax(hidden @ head / temperature).

  Peak memory is one chunk of logits and, under differentiation, one float32
  gradient of the head. The product is taken in the type of `hidden` and
  accumulated in float32; everything after it is float32. Differentiable
  (reverse mode) in `hidden`, `head` and `temperature`; the teacher's
  distribution is constant, and for what is constant no gradient is formed.
  On one device, chunks without a live token are not computed; under
  `jax.set_mesh` of several, every token stays on its device instead.

  Args:
    hidden: [..., D] hidden states; `hidden[…, t]` predicts `targets[…, t]`.
    head: [D, V] projection to the vocabulary.
    targets: i32[...] token ids. An id outside the cut vocabulary has
      log-probability −inf.
    mask: bool[...] the tokens that count. Elsewhere all is exactly 0, in
      value and gradient, whatever stands in `hidden` (NaN, too).
    temperature: f32[] > 0, divides the logits, the teacher's too.
    vocab_size: cuts both heads to their first `vocab_size` columns.
    teacher_hidden: [..., D'] hidden states of a teacher, or None.
    teacher_head: [D', V'] the teacher's head, or None.
    jsd_beta: asks for `jsd` = β·KL(q‖m) + (1−β)·KL(p‖m), m = β·q + (1−β)·p
      (GKD, arXiv:2306.13649, Eq. 1); by convention 0 is KL(q‖p), 1 KL(p‖q).
    top_k: asks for `top_k_kl`; tokens tied at the k-th place are all kept.
    total_variation: asks for it.
    chunk: tokens per chunk. None takes all at once while their logits fit in
      256 MiB a device; then chunks of 64 MiB or a quarter of the head's
      gradient, whichever is more. More is faster: on a GPU try 1024.

  Returns:
    TokenStats of f32[...].

  Raises:
    ValueError: shapes that do not fit, a mask that is not boolean, a cut
      beyond a head, heads of two sizes without a cut.
  """
  vocab = _check_arrays(
    hidden, head, targets, mask, vocab_size, teacher_hidden, teacher_head
  )
  asked = Divergences(jsd_beta, top_k, total_variation)
  _check_numbers(temperature, asked, chunk, vocab, teacher_head)
  if teacher_head is not None:
    teacher_hidden = jax.lax.stop_gradient(teacher_hidden)
    teacher_head = jax.lax.stop_gradient(teacher_head)[:, :vocab]
  if chunk is None:
    sides = 1 if teacher_head is None else 2
    chunk = _chunk_size(mask.size, head.shape[0], vocab, sides)
  count, sharded = _count(mask.size, chunk)
  # Ordered chunks need no padding: what is read beyond the end is 0.
  pad = -mask.size % count if sharded else 0

  def rows(x):
    flat = x.reshape((mask.size,) + x.shape[mask.ndim :])
    return jnp.pad(flat, ((0, pad),) + ((0, 0),) * (flat.ndim - 1))

  keep = rows(mask)
  order, rounds = None, count
  if count > 1 and not sharded:
    order, rounds = _live_first(keep, count)
  stats = _stats(
    rows(hidden),
    head[:, :vocab],
    jnp.asarray(temperature, jnp.float32),
    _Constants(
      targets=rows(targets),
      keep=keep,
      teacher_hidden=None if teacher_head is None else rows(teacher_hidden),
      teacher_head=teacher_head,
      order=order,
      rounds=rounds,
    ),
    _Static(count, asked),
  )

  def restore(x):
    return jnp.where(mask, x[: mask.size].reshape(mask.shape), 0.0)

  return jax.tree.map(restore, stats)


class _Constants(NamedTuple):
  """Inputs without a gradient; `tokens` is the number of rows.

  Attributes:
    targets: i32[tokens].
    keep: bool[tokens].
    teacher_hidden: [tokens, D'] or None.
    teacher_head: [D', V] or None.
    order: i32[count, size] the rows of each chunk, live ones first; beyond
      the end for padding. None: chunk j holds every count-th row.
    rounds: how many chunks hold a live token.
  """

  targets: Array
  keep: Array
  teacher_hidden: Array | None
  teacher_head: Array | None
  order: Array | None
  rounds: Array | int


class _Static(NamedTuple):
  """What compilation depends on: the number of chunks, what is asked."""

  chunks: int
  divergences: Divergences


def _chunk_size(tokens: int, width: int, vocab: int, sides: int) -> int:
  """Returns how many tokens' logits, of all sides, may live on a device."""
  logits = vocab * sides
  if 4 * logits * math.ceil(tokens / headlayout.devices()) <= _KEPT_BYTES:
    return tokens
  by_bytes = _CHUNK_BYTES // (4 * logits)
  # A large head's gradient is in memory anyway, and every chunk reads and
  # writes all of it: a quarter more memory saves most of that traffic.
  by_head = width // (4 * sides * headlayout.parts(headlayout.VOCAB))
  return max(128, max(by_bytes, by_head) // 128 * 128)


def _count(tokens: int, chunk: int) -> tuple[int, bool]:
  """Returns (number of chunks, whether tokens are spread over devices)."""
  devices = headlayout.devices()
  sharded = devices > 1
  count = max(1, math.ceil(tokens / (chunk * devices)))
  if sharded:
    # Without padding no token moves between devices.
    exact = (n for n in range(count, 2 * count) if tokens % n == 0)
    count = next(exact, count)
  return count, sharded


def _live_first(keep: Array, count: int) -> tuple[Array, Array]:
  """Returns (order, rounds) of `_Constants`: empty chunks come last."""
  size = math.ceil(keep.size / count)
  padded = jnp.pad(keep, (0, size * count - keep.size))
  order = jnp.argsort(jnp.logical_not(padded), stable=True)
  rounds = (jnp.sum(keep) + size - 1) // size
  return order.reshape(count, size), rounds


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _stats(hidden, head, temperature, constants, static):
  """Returns TokenStats of f32[tokens]; not masked yet."""
  return _forward(hidden, head, temperature, constants, static)[0]


def _forward(hidden, head, temperature, constants, static):
  """Returns (stats, saved, logits), the last only of a single chunk."""

  def one(j):
    z, t = _logits(hidden, head, temperature, constants, static, j)
    targets = _take(constants.targets, j, constants.order, static.chunks)
    return *measure(z, targets, t, static.divergences), (z, t)

  if static.chunks == 1:
    return one(0)
  like = jax.eval_shape(lambda: one(0)[:2])
  tokens = constants.keep.shape
  empty = jax.tree.map(lambda x: jnp.zeros(tokens, x.dtype), like)

  def body(j, carry):
    return jax.tree.map(
      lambda x, new: _put(x, new, j, constants.order, static.chunks),
      carry,
      one(j)[:2],
    )

  return *jax.lax.fori_loop(0, constants.rounds, body, empty), None


def _logits(hidden, head, temperature, constants, static, j):
  """Returns f32[size, V] logits of chunk j, and the teacher's or None."""
  keep = _take(constants.keep, j, constants.order, static.chunks)

  def product(x, w):
    x = _take(x, j, constants.order, static.chunks)
    x = headlayout.laid_out(
      jnp.where(keep[:, None], x, 0), headlayout.TOKENS, ()
    )
    z = (
      _einsum("cd,dv->cv", x, headlayout.by_vocabulary(w.astype(x.dtype)))
      / temperature
    )
    return headlayout.laid_out(z, headlayout.TOKENS, headlayout.VOCAB)

  z = product(hidden, head)
  if constants.teacher_head is None:
    return z, None
  return z, product(constants.teacher_hidden, constants.teacher_head)


_einsum = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _take(x: Array, j: Array | int, order: Array | None, count: int) -> Array:
  """Returns the rows of chunk j."""
  if order is not None:
    return x.at[order[j]].get(mode="fill", fill_value=0)
  strided = x.reshape((-1, count) + x.shape[1:])
  return jax.lax.dynamic_index_in_dim(strided, j, axis=1, keepdims=False)


def _put(
  x: Array, rows: Array, j: Array | int, order: Array | None, count: int
) -> Array:
  """Returns `x` with the rows of chunk j replaced."""
  if order is not None:
    return x.at[order[j]].set(rows, mode="drop", unique_indices=True)
  strided = x.reshape((-1, count) + x.shape[1:])
  strided = jax.lax.dynamic_update_index_in_dim(strided, rows, j, axis=1)
  return strided.reshape(x.shape)


class _Each(NamedTuple):
  """One thing for each array that may be differentiated; None: it is not."""

  hidden: Any
  head: Any
  temperature: Any


def _stats_fwd(hidden, head, temperature, constants, static):
  # A residual holds arrays and no flags: an empty tuple stands for "yes".
  wanted = _Each._make(
    () if x.perturbed else None for x in (hidden, head, temperature)
  )
  values = jax.tree.map(
    lambda x: x.value,
    (hidden, head, temperature, constants),
    is_leaf=lambda x: isinstance(x, jax.custom_derivatives.CustomVJPPrimal),
  )
  stats, saved, logits = _forward(*values, static)
  return stats, (values, stats, saved, logits, wanted)


def _stats_bwd(static, residuals, cotangents):
  (hidden, head, temperature, constants), stats, saved, logits, wanted = (
    residuals
  )
  zero = jax.custom_derivatives.SymbolicZero
  cotangents = TokenStats._make(
    None if isinstance(ct, zero) else ct for ct in cotangents
  )
  start = _Each(None, None, None)
  if wanted.hidden is not None:
    start = start._replace(hidden=jnp.zeros(hidden.shape, hidden.dtype))
  if wanted.head is not None:
    sums = headlayout.by_vocabulary(jnp.zeros(head.shape, jnp.float32))
    start = start._replace(head=sums)
  if wanted.temperature is not None:
    start = start._replace(temperature=jnp.zeros((), jnp.float32))

  def body(j, sums):
    take = functools.partial(
      _take, j=j, order=constants.order, count=static.chunks
    )
    z, t = logits or _logits(hidden, head, temperature, constants, static, j)
    dz = pull_back(
      z,
      take(constants.targets),
      t,
      jax.tree.map(take, stats),
      jax.tree.map(take, saved),
      jax.tree.map(take, cotangents),
      static.divergences,
    )
    d_hidden, d_head, d_temperature = sums
    if d_temperature is not None:
      d_temperature -= jnp.sum(dz * z) / temperature
    # bf16 operands where the model is bf16, as in the forward product.
    dz = (dz / temperature).astype(hidden.dtype)
    keep = take(constants.keep)[:, None]
    if d_head is not None:
      x = headlayout.laid_out(
        jnp.where(keep, take(hidden), 0), headlayout.TOKENS, ()
      )
      d_head += headlayout.by_vocabulary(_einsum("cd,cv->dv", x, dz))
    if d_hidden is not None:
      x = _einsum(
        "cv,dv->cd", dz, headlayout.by_vocabulary(head.astype(dz.dtype))
      )
      # Summed over words, and back to the devices that asked.
      x = headlayout.laid_out(x, headlayout.TOKENS + headlayout.WIDTH, ())
      x = jnp.where(keep, x, 0).astype(hidden.dtype)
      d_hidden = _put(d_hidden, x, j, constants.order, static.chunks)
    return _Each(d_hidden, d_head, d_temperature)

  if static.chunks == 1:
    sums = body(0, start)
  else:
    sums = jax.lax.fori_loop(0, constants.rounds, body, start)
  d_hidden, d_head, d_temperature = sums
  if d_head is not None:
    d_head = headlayout.by_width(d_head).astype(head.dtype)
  return d_hidden, d_head, d_temperature, None


_stats.defvjp(_stats_fwd, _stats_bwd, symbolic_zeros=True)


def _check_arrays(
  hidden, head, targets, mask, vocab_size, teacher_hidden, teacher_head
) -> int:
  """Returns the vocabulary's size after the cut, or raises ValueError."""
  if (teacher_hidden is None) != (teacher_head is None):
    raise ValueError(
      "teacher_hidden and teacher_head belong together: got only one of them"
    )
  _check_product("", hidden, head, mask.shape)
  if targets.shape != mask.shape:
    raise ValueError(
      f"targets has shape {targets.shape}, expected {mask.shape}, the shape "
      "of mask"
    )
  if mask.dtype != jnp.bool_:
    raise ValueError(f"mask has dtype {mask.dtype}, expected bool: mask != 0")
  if not jnp.issubdtype(targets.dtype, jnp.integer):
    raise ValueError(f"targets has dtype {targets.dtype}, expected integers")
  heads = {"head": head.shape[1]}
  if teacher_head is not None:
    _check_product("teacher_", teacher_hidden, teacher_head, mask.shape)
    heads["teacher_head"] = teacher_head.shape[1]
  smallest = min(heads, key=lambda name: heads[name])
  if vocab_size is None and len(set(heads.values())) > 1:
    raise ValueError(
      f"heads have {heads} columns: pass vocab_size, the tokenizer's size, "
      "to cut both"
    )
  if vocab_size is not None and not 0 < vocab_size <= heads[smallest]:
    raise ValueError(
      f"vocab_size is {vocab_size}, expected 1 to {heads[smallest]}, the "
      f"columns of {smallest}"
    )
  return heads[smallest] if vocab_size is None else vocab_size


def _check_product(prefix, hidden, head, shape) -> None:
  if (
    hidden.shape[:-1] != shape
    or head.ndim != 2
    or (hidden.shape[-1] != head.shape[0])
  ):
    raise ValueError(
      f"{prefix}hidden has shape {hidden.shape} and {prefix}head "
      f"{head.shape}, expected {shape} + (D,) and (D, V): tokens as in mask; "
      "a tied embedding [V, D] must be transposed"
    )


def check_temperature(temperature: Any) -> None:
  """Raises ValueError for a Python number that logits cannot be divided by.

  Gradients grow with 1 / temperature and their squares must stay finite in
  float32; denormal temperatures are zero there. A traced number passes.
  """
  if isinstance(temperature, int | float) and not (
    _COLDEST <= temperature <= 1 / _COLDEST
  ):
    raise ValueError(
      f"temperature is {temperature}, expected > 0, from {_COLDEST:g} to"
      f" {1 / _COLDEST:g}; statistics of greedy decoding are those at 1"
    )


def _check_numbers(temperature, asked: Divergences, chunk, vocab, teacher_head):
  check_temperature(temperature)
  if teacher_head is None and asked != Divergences():
    named = ", ".join(f"{k} is {v}" for k, v in asked._asdict().items())
    raise ValueError(
      f"{named} without a teacher: pass teacher_hidden and teacher_head"
    )
  jsd_beta, top_k = asked.jsd_beta, asked.top_k
  if jsd_beta is not None and not 0 <= jsd_beta <= 1:
    raise ValueError(f"jsd_beta is {jsd_beta}, expected 0 to 1")
  if top_k is not None and not 0 < top_k <= vocab:
    raise ValueError(f"top_k is {top_k}, expected 1 to {vocab}")
  if chunk is not None and chunk < 1:
    raise ValueError(f"chunk is {chunk}, expected at least 1 token")
