"""Random batches for the oracle of the papers, and how near is near enough.

Ten random batches each, [4, 5], one row masked out entirely, NaN wherever the
mask is False. Inputs are float32 numbers, so that both sides start from the
same reals and the difference is arithmetic alone. Tolerances: a value is a sum
of at most 20 terms of size <= 10, each rounded a few times at 2⁻²⁴ = 6e-8, so
1e-5 relative (1e-6 absolute where terms cancel) leaves a factor of ten; a
gradient is compared with central differences of the oracle at 1e-4.
"""

import functools

import jax
import numpy as np
import pytest

SEEDS = range(10)
ROWS, TOKENS = 4, 5
EMPTY_ROW = 2

cases = pytest.mark.parametrize("seed", SEEDS)


def draw_mask(rng):
  mask = rng.random((ROWS, TOKENS)) < 0.7
  mask[:, 0] = True
  mask[EMPTY_ROW] = False
  return mask


def draw(rng, mask, low=-4.0, high=-0.05):
  """Float32 numbers where the mask is True, NaN elsewhere."""
  values = rng.uniform(low, high, mask.shape).astype(np.float32)
  return np.where(mask, values, np.float32(np.nan))


def near(rng, values, spread=0.5):
  noise = rng.uniform(-spread, spread, values.shape)
  return (values + noise).astype(np.float32)


def agree(got, want):
  np.testing.assert_allclose(np.float64(got), want, rtol=1e-5, atol=1e-6)


def agree_gradient(got, want):
  """Finite everywhere, and exactly 0 where the oracle never looked."""
  got = np.float64(got)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(got[want == 0], 0)


@functools.cache
def graded(loss, argnums=(0,), **settings):
  """Value and gradients of a library loss, compiled once for all cases."""
  return jax.jit(
    jax.value_and_grad(
      lambda *args: loss(*args, **settings)[0], argnums=argnums
    )
  )
