"""Pairs whose rejected completion the policy has just sampled itself."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from jaxvlm import distributed, sharding
from jaxvlm.data.negatives import Kind, same
from jaxvlm.data.rows import HostBatch, Row
from jaxvlm.sampling import Samples
from jaxvlm.tasks import Task, score
from jaxvlm.train import experience
from jaxvlm.typing import Batch

_KINDS = tuple(Kind)
_NONE = -1  # no sample is taken; no kind is known


def pair(
  host: HostBatch,
  samples: Samples,
  asked: np.ndarray,
  *,
  decode: Callable[[Sequence[int]], str],
  task: Task | None = None,
  mesh: Mesh | None = None,
) -> tuple[Batch, dict[str, float]]:
  """Returns pairs of the rows' chosen completions and sampled ones.

  Of a row's samples the first is taken that is neither empty nor a right text
  of the row. If there is none, the row keeps the negative of its data; if it
  has none of these either, its pair does not count.

  Args:
    host: rows whose first response is the chosen one, and the second, if there
      is one, rejected; with a mesh on its devices.
    samples: of the same prompts, G of each.
    asked: bool[N] the rows of all processes that want a sampled negative.
    decode: token ids -> text.
    task: takes samples only whose reward is below the chosen text's: what the
      policy says right in other words is no negative. None takes all.
    mesh: where the arrays lie; None takes one device.

  Returns:
    (the batch, G = 2; what to log): shares of rows, `negatives/<kind>`,
    `negatives/none` without any, and `negatives/only_chosen` whose samples were
    all right.

  Raises:
    ValueError: rows without a response; as `jaxvlm.tasks.score`.
  """
  if not host.batch.mask.shape[1]:
    raise ValueError(
      "the rows have no responses, expected the chosen one first: a pair needs"
      " a text to prefer"
    )
  wanted = asked[experience.places(len(asked), mesh)]
  texts = _texts(samples, decode)
  taken = np.where(wanted, _first_wrong(texts, host.rows, task), _NONE)
  found = np.stack([taken, _kinds(host.rows, taken), wanted], 1).astype(
    np.int32
  )
  held = found if mesh is None else sharding.shard_batch(mesh, found)
  batch = _joined(host.batch, samples.tokens, samples.mask, held[:, 0])
  return batch, _shares(distributed.gather(held))


def shares(rows: Sequence[Row]) -> dict[str, float]:
  """Returns which share of rows has a negative of each kind; {} without any.

  Args:
    rows: with their kinds.
  """
  if not any(any(row.kinds) for row in rows):
    return {}
  kinds = _kinds(rows, np.full(len(rows), _NONE))
  return _shares(np.stack([kinds, kinds, 0 * kinds], 1))


def _texts(
  samples: Samples, decode: Callable[[Sequence[int]], str]
) -> list[list[str]]:
  """Returns G texts of each of this process's rows."""
  tokens = experience.own_rows(samples.tokens)
  mask = experience.own_rows(samples.mask)
  return [
    [decode(t[m].tolist()) for t, m in zip(*row, strict=True)]
    for row in zip(tokens, mask, strict=True)
  ]


def _first_wrong(
  texts: Sequence[Sequence[str]], rows: Sequence[Row], task: Task | None
) -> np.ndarray:
  """Returns i64[n]: the first sample that may be a negative, or `_NONE`."""
  if task is None:
    below = np.ones((len(rows), len(texts[0])), bool)
  else:
    said = [text for row in texts for text in row]
    each = [row for row in rows for _ in texts[0]]
    reward = score(task, said, each)["reward"].reshape(len(rows), -1)
    right = score(task, [row.responses[0] for row in rows], rows)["reward"]
    below = reward < right[:, None]
  may = [
    [
      ok and bool(text.strip()) and not _is_right(text, row)
      for text, ok in zip(said, allowed, strict=True)
    ]
    for said, allowed, row in zip(texts, below, rows, strict=True)
  ]
  return np.array([ok.index(True) if any(ok) else _NONE for ok in may])


def _is_right(text: str, row: Row) -> bool:
  # The first response is the chosen one, whether or not kinds are known.
  kinds = row.kinds or ("",)
  return any(
    same(text, right)
    for right, kind in zip(row.responses, kinds, strict=False)
    if not kind
  )


def _kinds(rows: Sequence[Row], taken: np.ndarray) -> np.ndarray:
  """Returns i64[n] numbers of `Kind`, `_NONE` where a row has no negative."""
  return np.array(
    [
      _KINDS.index(Kind.POLICY if sample != _NONE else _stored(row))
      if sample != _NONE or len(row.responses) > 1
      else _NONE
      for row, sample in zip(rows, taken, strict=True)
    ]
  )


def _stored(row: Row) -> Kind:
  """Returns the kind of a row's own negative."""
  kinds = [kind for kind in row.kinds if kind in set(_KINDS)]
  return Kind(kinds[0]) if kinds else Kind.FILE


def _shares(found: np.ndarray) -> dict[str, float]:
  """Returns shares of (sample taken, kind, sample wanted) of all rows."""
  taken, kinds, wanted = np.asarray(found).T
  out = {
    f"negatives/{kind}": float((kinds == number).mean())
    for number, kind in enumerate(_KINDS)
    if (kinds == number).any()
  }
  out["negatives/none"] = float((kinds == _NONE).mean())
  if wanted.any():
    empty = (taken == _NONE) & (wanted == 1)
    out["negatives/only_chosen"] = float(empty.sum() / wanted.sum())
  return out


@jax.jit
def _joined(batch: Batch, tokens: Array, mask: Array, taken: Array) -> Batch:
  """Returns chosen and rejected completions, i32[N, 2, T]."""
  place = jnp.maximum(taken, 0)[:, None, None]
  sampled_tokens = jnp.take_along_axis(tokens, place, 1)
  sampled_mask = jnp.take_along_axis(mask, place, 1)
  if batch.mask.shape[1] > 1:
    own_tokens, own_mask = batch.tokens[:, 1:2], batch.mask[:, 1:2]
  else:
    own_tokens, own_mask = sampled_tokens, jnp.zeros_like(sampled_mask)
  use = (taken != _NONE)[:, None, None]
  return batch._replace(
    tokens=jnp.concatenate(
      [batch.tokens[:, :1], jnp.where(use, sampled_tokens, own_tokens)], 1
    ),
    mask=jnp.concatenate(
      [batch.mask[:, :1], jnp.where(use, sampled_mask, own_mask)], 1
    ),
  )
