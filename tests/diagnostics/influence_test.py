"""Influence against the kernel written out, and against the step itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxvlm.diagnostics import influence as lib

UPDATES, OBSERVED, INPUTS, HIDDEN, VOCAB = 4, 3, 5, 6, 7


def logits(params, examples):
  """f32[n, V] of a network with one hidden layer."""
  return jnp.tanh(examples["x"] @ params["in"]) @ params["out"]


def logprobs(z, examples):
  picked = jax.nn.log_softmax(z, -1)
  return jnp.take_along_axis(picked, examples["y"][:, None], -1)[:, 0]


def loss(z, examples):
  return -jnp.sum(logprobs(z, examples))


@pytest.fixture(scope="module")
def case():
  rng = np.random.default_rng(0)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  def examples(*shape):
    return {
      "x": draw(*shape, INPUTS),
      "y": jnp.asarray(rng.integers(0, VOCAB, shape)),
    }

  params = {"in": draw(INPUTS, HIDDEN), "out": draw(HIDDEN, VOCAB)}
  return params, examples(UPDATES, 2), examples(OBSERVED)


@pytest.fixture(scope="module")
def found(case):
  params, updates, observed = case
  return jax.jit(
    lambda p, u, o: lib.influence(logits, loss, logprobs, p, u, o)
  )(params, updates, observed)


def test_factors_are_those_of_the_kernel_written_out(case, found):
  params, updates, observed = case
  flat, restore = ravel_pytree(params)

  def jacobian(examples):
    j = jax.jacobian(lambda p: logits(restore(p), examples))(flat)
    return np.asarray(j, np.float64)

  j_o = jacobian(observed)  # [O, V, P]
  z_o = logits(params, observed)
  a = jax.grad(lambda z: jnp.sum(logprobs(z, observed)))(z_o)
  a = np.asarray(a, np.float64)
  for u in range(UPDATES):
    one = jax.tree.map(lambda x: x[u], updates)  # noqa: B023
    j_u = jacobian(one).reshape(-1, flat.size)
    g = np.asarray(jax.grad(loss)(logits(params, one), one), np.float64)
    slope = j_u.T @ g.ravel()
    kg = j_o @ slope
    change = -np.sum(a * kg, -1)
    near = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(found.change[u], change, **near)
    norms = np.linalg.norm(kg, axis=-1)
    np.testing.assert_allclose(found.moved[u], norms, **near)
    np.testing.assert_allclose(found.residual[u], np.linalg.norm(g), rtol=1e-5)
    np.testing.assert_allclose(
      found.gradient[u], np.linalg.norm(slope), rtol=1e-5
    )
    np.testing.assert_allclose(
      found.kernel[u], norms / np.linalg.norm(g), rtol=1e-4
    )
  np.testing.assert_allclose(
    found.belief, np.linalg.norm(a, axis=-1), rtol=1e-5
  )
  np.testing.assert_allclose(
    found.change, -found.alignment * found.belief * found.moved, **near
  )


def test_the_step_does_what_was_predicted(case, found):
  params, updates, observed = case
  rate = 1e-3

  @jax.jit
  def measured(update):
    moved = lib.descend(logits, loss, params, update, rate)
    before, after = (
      logprobs(logits(p, observed), observed) for p in (params, moved)
    )
    return (after - before) / rate

  changes = jax.lax.map(measured, updates)
  np.testing.assert_allclose(changes, found.change, rtol=0.05, atol=0.02)
