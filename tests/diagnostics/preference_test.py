"""The parts of a preference loss's gradient, against the gradient itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import losses
from jaxvlm.diagnostics import preference

N, INPUTS, VOCAB = 6, 4, 5
BETA = 0.7


def logprobs(params, pair):
  """f32[2]: chosen, rejected, one token each."""
  table = jax.nn.log_softmax(pair["x"] @ params)
  return table[pair["y"]]


@pytest.fixture(scope="module")
def case():
  rng = np.random.default_rng(0)
  params = jnp.asarray(rng.normal(size=(INPUTS, VOCAB)), jnp.float32)
  two = np.stack([rng.permutation(VOCAB)[:2] for _ in range(N)])
  pairs = {
    "x": jnp.asarray(rng.normal(size=(N, INPUTS)), jnp.float32),
    "y": jnp.asarray(two),
  }
  return params, pairs, jnp.asarray(rng.normal(size=(N, 2)) - 2, jnp.float32)


def dpo(chosen, rejected, reference):
  return losses.dpo_loss(
    chosen, rejected, *reference.T, beta=BETA, normalizer=1.0
  )[0]


def cw_dpo(chosen, rejected, reference):
  return losses.cw_dpo_loss(
    chosen,
    rejected,
    *reference.T,
    rejected,  # one token each: the mean is the sum
    beta=BETA,
    floor=-1.0,
    tau=0.5,
    normalizer=1.0,
  )[0]


@pytest.mark.parametrize("loss", [dpo, cw_dpo])
def test_parts_are_those_of_the_gradient(case, loss):
  params, pairs, reference = case
  found = preference.pair_gradients(logprobs, params, pairs)
  both = jax.vmap(logprobs, in_axes=(None, 0))(params, pairs)
  parts = preference.split(lambda c, r: loss(c, r, reference), *both.T, found)
  for i in range(N):
    pair, ref = jax.tree.map(lambda x: x[i], (pairs, reference))  # noqa: B023

    def part(params, side, pair=pair, ref=ref):
      """The loss as a function of one completion's log-probability."""
      moving = logprobs(params, pair)
      still = jax.lax.stop_gradient(moving)
      c, r = (moving[k] if k == side else still[k] for k in range(2))
      return loss(c[None], r[None], ref[None])

    for side, values in enumerate(parts):
      norm = np.linalg.norm(jax.grad(part)(params, side))
      assert float(values[i]) == pytest.approx(norm, rel=1e-4)
    won, lost = (
      np.ravel(jax.grad(lambda p, k=k, at=pair: logprobs(p, at)[k])(params))
      for k in range(2)
    )
    cosine = won @ lost / np.linalg.norm(won) / np.linalg.norm(lost)
    assert float(found.cosine[i]) == pytest.approx(cosine, abs=1e-5)


def test_dpo_pushes_both_sides_alike_and_cooling_spares_the_loser(case):
  params, pairs, reference = case
  found = preference.pair_gradients(logprobs, params, pairs)
  both = jax.vmap(logprobs, in_axes=(None, 0))(params, pairs)
  plain, cooled = (
    preference.split(lambda c, r: loss(c, r, reference), *both.T, found)  # noqa: B023
    for loss in (dpo, cw_dpo)
  )
  np.testing.assert_allclose(
    plain.winner / found.chosen, plain.loser / found.rejected, rtol=1e-5
  )
  shares = (cooled.loser / found.rejected) / (cooled.winner / found.chosen)
  weights = losses.cooling_weight(both[:, 1], floor=-1.0, tau=0.5)
  np.testing.assert_allclose(shares, weights, rtol=1e-5)


def test_bins_are_means_by_the_margin():
  a = jnp.array([0.1, 0.2, 0.85, 0.9, 1.0])
  parts = preference.Split(jnp.arange(5.0), 2 * jnp.arange(5.0))
  edges = jnp.array([0.0, 0.5, 0.8, 1.0])
  found = preference.by_margin(a, parts, edges)
  np.testing.assert_array_equal(found.count, [2, 0, 3])
  np.testing.assert_allclose(found.winner, [0.5, 0, 3])
  np.testing.assert_allclose(found.loser, [1, 0, 6])
