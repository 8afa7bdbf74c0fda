"""Junk, chunks and order change no token statistic, whatever the input."""

import functools

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxvlm.tokenstats import token_stats
from tests.tokenstats_cases import (
  OPTIONS,
  coefficients,
  contract,
  draw,
)

SHAPES = ((5,), (3, 2, 5))  # chunks of 3 and 8 fill them, or do not


def smooth(seed, shape):
  """Cotangents of all but the total variation, whose gradient jumps.

  Where p and q are equal up to rounding, its sign is anybody's; its gradient is
  compared in tokenstats_test.py, at inputs that stay.
  """
  drawn = coefficients(seed, shape)
  del drawn["total_variation"]
  return drawn


@functools.partial(jax.jit, static_argnames=("chunk",))
def everything(x, weights, chunk):
  rest = {k: v for k, v in x.items() if k not in ("hidden", "head")}

  def loss(hidden, head):
    stats = token_stats(hidden, head, **rest, chunk=chunk, **OPTIONS)
    return contract(stats, weights), stats

  return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
    x["hidden"], x["head"]
  )


def junk_changes_nothing(seed, shape, chunk):
  """NaN and infinity behind the mask, to the bit; gradient exactly 0."""
  x = draw(seed, shape)
  weights = smooth(seed, shape)
  clean = everything(x, weights, chunk)
  dirty = dict(x)
  rng = np.random.default_rng(seed)
  for key in ("hidden", "teacher_hidden"):
    junk = rng.choice([np.nan, np.inf, -np.inf, 1e30], size=x[key].shape)
    dirty[key] = np.where(x["mask"][..., None], x[key], junk).astype("f4")
  dirty["targets"] = np.where(x["mask"], x["targets"], -100)
  jax.tree.map(
    np.testing.assert_array_equal, everything(dirty, weights, chunk), clean
  )
  (_, stats), (hidden, _) = clean
  assert not np.asarray(hidden)[~x["mask"]].any()
  assert all(not np.asarray(s)[~x["mask"]].any() for s in stats)


def chunks_change_nothing(seed, shape, chunk):
  """Up to the order of float32 sums."""
  x = draw(seed, shape)
  weights = smooth(seed, shape)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    everything(x, weights, chunk),
    everything(x, weights, None),
  )


def order_and_slicing_change_nothing(seed, shape, chunk):
  """Live tokens alone, in any order, have the same statistics."""
  x = draw(seed, shape)
  weights = smooth(seed, shape)
  (_, stats), (hidden, head) = everything(x, weights, chunk)
  moved = np.random.default_rng(seed).permutation(x["mask"].size)

  def permute(v, rank=0):
    flat = np.asarray(v).reshape((-1,) + v.shape[len(shape) :])
    return flat[moved].reshape(v.shape)

  y = {k: v if k.endswith("head") else permute(v) for k, v in x.items()}
  shuffled = {k: permute(v) for k, v in weights.items()}
  (_, other), (other_hidden, other_head) = everything(y, shuffled, chunk)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
  jax.tree.map(lambda a, b: close(a, permute(b)), other, stats)
  close(other_hidden, permute(hidden))
  close(other_head, head)


PROPERTIES = (
  junk_changes_nothing,
  chunks_change_nothing,
  order_and_slicing_change_nothing,
)


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda f: f.__name__)
@hypothesis.given(
  seed=st.integers(0, 2**32 - 1),
  shape=st.sampled_from(SHAPES),
  chunk=st.sampled_from((3, 8)),
)
@hypothesis.settings(max_examples=100, deadline=None, database=None)
def test_property(holds, seed, shape, chunk):
  holds(seed, shape, chunk)


@pytest.mark.slow
@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda f: f.__name__)
@hypothesis.given(
  seed=st.integers(0, 2**32 - 1),
  shape=st.tuples(st.integers(1, 4), st.integers(1, 6)),
  chunk=st.integers(1, 12),
)
@hypothesis.settings(max_examples=10_000, deadline=None, database=None)
def test_property_at_length(holds, seed, shape, chunk):
  holds(seed, shape, chunk)
