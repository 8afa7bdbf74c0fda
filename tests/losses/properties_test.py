"""What holds for every objective, searched by hypothesis.

The fast suite draws from two shapes, so that nothing is compiled twice; the
slow one draws shapes freely.
"""

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.losses import cases

JUNK = (np.nan, np.inf, -np.inf, 1e30, -1e30)


def close(actual, expected):
  """Equal up to the order of float32 sums."""
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6),
    actual,
    expected,
  )


def equal(actual, expected):
  """Equal to the bit."""
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def masks_of(name, x):
  """{array: its mask} for every array that a mask hides, and the masks."""
  return {key: x[mask] for key, mask in cases.CASES[name].masks.items()}


def masking_is_slicing(name, seed, shape):
  """What stands behind the mask, or is appended there, changes nothing."""
  x = cases.draw(name, seed, shape)
  rows, tokens = -(-shape[0] // 2), -(-shape[1] // 2)
  for key in set(cases.CASES[name].masks.values()):
    x[key][rows:] = False
    if x[key].ndim > 1:
      x[key][:, tokens:] = False
    x[key].flat[0] = True
  sliced = {
    key: value[:rows, :tokens] if value.ndim > 1 else value[:rows]
    for key, value in x.items()
  }
  loss, gradient = cases.value_and_gradient(name, x)
  expected, part = cases.value_and_gradient(name, sliced)
  close(loss, expected)
  for key in gradient:
    inside = np.asarray(gradient[key])
    inside = inside[:rows, :tokens] if inside.ndim > 1 else inside[:rows]
    close(inside, part[key])


def order_does_not_matter(name, seed, shape):
  """Rows may be permuted, and tokens within all rows alike."""
  x = cases.draw(name, seed, shape)
  rng = np.random.default_rng(seed)
  rows, tokens = rng.permutation(shape[0]), rng.permutation(shape[1])

  def permute(value):
    value = value[rows]
    return value[:, tokens] if value.ndim > 1 else value

  moved = {key: permute(value) for key, value in x.items()}
  loss, gradient = cases.value_and_gradient(name, x)
  other, moved_gradient = cases.value_and_gradient(name, moved)
  close(other, loss)
  close(
    moved_gradient, {k: permute(np.asarray(v)) for k, v in gradient.items()}
  )


def microbatches_add_up(name, seed, shape):
  """With the whole batch's normalizers, shares sum to value and gradient."""
  x = cases.draw(name, seed, shape)
  loss, gradient = cases.value_and_gradient(name, x)
  shares = [
    cases.value_and_gradient(
      name, {key: value[part] for key, value in x.items()}, whole=x
    )
    for part in (slice(0, shape[0] // 2), slice(shape[0] // 2, None))
    if len(range(shape[0])[part])
  ]
  close(sum(share for share, _ in shares), loss)
  for key in gradient:
    close(np.concatenate([part[key] for _, part in shares]), gradient[key])


def jit_is_eager(name, seed, shape):
  x = cases.draw(name, seed, shape)
  close(
    cases.value_and_gradient(name, x),
    cases.value_and_gradient(name, x, jit=False),
  )


def junk_behind_the_mask_is_harmless(name, seed, shape):
  """To the bit, in value and in gradient, which is exactly 0 there."""
  x = cases.draw(name, seed, shape)
  rng = np.random.default_rng(seed)
  dirty = dict(x)
  for key, mask in masks_of(name, x).items():
    junk = rng.choice(JUNK, size=x[key].shape)
    dirty[key] = np.where(mask, x[key], junk)
  clean = cases.value_and_gradient(name, x)
  equal(cases.value_and_gradient(name, dirty), clean)
  for key, mask in masks_of(name, x).items():
    if key in clean[1]:
      assert not np.any(np.asarray(clean[1][key])[~mask])


def nothing_counted_is_zero(name, seed, shape):
  """An all-masked batch has loss and gradient exactly 0, NaN or not."""
  x = cases.draw(name, seed, shape)
  for key in set(cases.CASES[name].masks.values()):
    x[key][...] = False
  for key in cases.CASES[name].masks:
    x[key][...] = np.nan
  loss, gradient = cases.value_and_gradient(name, x)
  equal(loss, 0.0)
  equal(gradient, {key: np.zeros(x[key].shape) for key in gradient})


PROPERTIES = (
  masking_is_slicing,
  order_does_not_matter,
  microbatches_add_up,
  junk_behind_the_mask_is_harmless,
  nothing_counted_is_zero,
)
NAMES = st.sampled_from(sorted(cases.CASES))
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda f: f.__name__)
@hypothesis.given(name=NAMES, seed=SEEDS, shape=st.sampled_from(cases.SHAPES))
@hypothesis.settings(max_examples=100, deadline=None, database=None)
def test_property(holds, name, seed, shape):
  holds(name, seed, shape)


@pytest.mark.parametrize("name", sorted(cases.CASES))
def test_jit_is_eager(name):
  """One shape: eagerly, every operation of a shape is a program of its own."""
  for seed in range(5):
    jit_is_eager(name, seed, cases.SHAPES[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
  "holds", (*PROPERTIES, jit_is_eager), ids=lambda f: f.__name__
)
@hypothesis.given(
  name=NAMES,
  seed=SEEDS,
  shape=st.tuples(st.integers(1, 5), st.integers(1, 6)),
)
@hypothesis.settings(max_examples=10_000, deadline=None, database=None)
def test_property_at_length(holds, name, seed, shape):
  holds(name, seed, shape)
