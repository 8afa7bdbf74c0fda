"""Losses of pairs against a float64 reading of the papers (`cold`)."""

import functools

import jax
import numpy as np
import pytest

from jaxvlm import losses
from tests.losses.cold_batches import (
  ROWS,
  agree,
  agree_gradient,
  cases,
  draw,
  draw_mask,
  graded,
  near,
)
from tests.reference import cold


def weighted_rows(logprobs, mask, *, of):
  """A scalar of both results in which every row has a weight of its own."""
  total, mean = of(logprobs, mask)
  weights = np.arange(1, ROWS + 1, dtype=np.float32)
  return (weights * total - 3 * weights[::-1] * mean).sum(), {}


@cases
def test_sequence_logprobs(seed):
  rng = np.random.default_rng(seed)
  mask = draw_mask(rng)
  logprobs = draw(rng, mask)
  for got, want in zip(
    losses.sequence_logprobs(logprobs, mask),
    cold.sequence_logprobs(logprobs, mask),
    strict=True,
  ):
    agree(got, want)
  value, (grad,) = graded(weighted_rows, of=losses.sequence_logprobs)(
    logprobs, mask
  )

  def oracle(logprobs):
    return weighted_rows(logprobs, mask, of=cold.sequence_logprobs)[0]

  agree(value, oracle(logprobs))
  agree_gradient(grad, cold.difference_quotient(oracle, logprobs))


def draw_pairs(rng):
  """Four sums f32[B] and the losers' token means; Δ of a few nats."""
  chosen, rejected = rng.uniform(-30, -5, (2, 6)).astype(np.float32)
  pair = (
    chosen,
    rejected,
    near(rng, chosen, 8),
    near(rng, rejected, 8),
  )
  return pair, rng.uniform(-7, -0.5, 6).astype(np.float32)


def check_pairs(got, oracle, pair):
  """Value, gradients in the policy's sums, none in the reference's."""
  value, grads = got
  agree(value, oracle(*pair))
  for i in range(2):

    def moved(x, i=i):
      return oracle(*pair[:i], x, *pair[i + 1 :])

    agree_gradient(grads[i], cold.difference_quotient(moved, pair[i]))
  np.testing.assert_array_equal(np.stack(grads[2:4]), 0)


@cases
def test_dpo(seed):
  pair, _ = draw_pairs(np.random.default_rng(seed))
  beta = [0.1, 0.5][seed % 2]
  got = graded(losses.dpo_loss, (0, 1, 2, 3), beta=beta)(*pair)
  check_pairs(got, functools.partial(cold.dpo, beta=beta), pair)


@cases
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal_dpo(seed, gamma):
  pair, _ = draw_pairs(np.random.default_rng(seed))
  loss = graded(losses.focal_dpo_loss, (0, 1, 2, 3), beta=0.3, gamma=gamma)
  oracle = functools.partial(cold.focal_dpo, beta=0.3, gamma=gamma)
  check_pairs(loss(*pair), oracle, pair)


@cases
def test_cooling_weight(seed):
  means = np.random.default_rng(seed).uniform(-9, 0, 6).astype(np.float32)
  got = losses.cooling_weight(means, floor=-3.0, tau=0.7)
  agree(got, cold.cooling_weight(means, floor=-3.0, tau=0.7))
  grad = jax.grad(
    lambda x: losses.cooling_weight(x, floor=-3.0, tau=0.7).sum()
  )(means)
  agree_gradient(
    grad,
    cold.difference_quotient(
      lambda x: cold.cooling_weight(x, floor=-3.0, tau=0.7).sum(), means
    ),
  )


def library_cw_dpo(*args, **settings):
  *pair, means, mask = args
  return losses.cw_dpo_loss(*pair, means, mask=mask, **settings)


@cases
@pytest.mark.parametrize("differentiate_weight", [False, True])
def test_cw_dpo(seed, differentiate_weight):
  rng = np.random.default_rng(seed)
  pair, means = draw_pairs(rng)
  mask = np.ones(6, bool)
  if seed % 2:
    mask[[1, 4]] = False
    means[1] = pair[0][1] = pair[3][4] = np.nan
  if seed == 9:
    mask[:] = False
  cooling = {"floor": -3.0, "tau": 0.8}

  got = graded(
    library_cw_dpo,
    (0, 1, 2, 3, 4),
    beta=0.3,
    differentiate_weight=differentiate_weight,
    **cooling,
  )(*pair, means, mask)
  held = cold.cooling_weight(means, **cooling)

  def oracle(*pair, weights=held):
    return cold.cw_dpo(*pair, weights, beta=0.3, mask=mask)

  check_pairs(got, oracle, pair)
  want = np.zeros(6)
  if differentiate_weight:
    want = cold.difference_quotient(
      lambda x: oracle(*pair, weights=cold.cooling_weight(x, **cooling)), means
    )
  agree_gradient(got[1][4], want)


def library_cw_dpo_from_tokens(
  tokens, mask, chosen, ref_chosen, ref_rejected, **settings
):
  total, mean = losses.sequence_logprobs(tokens, mask)
  return losses.cw_dpo_loss(
    chosen, total, ref_chosen, ref_rejected, mean, **settings
  )


@cases
def test_cw_dpo_from_tokens(seed):
  """Through the tokens, the weight's gradient joins the loser's own."""
  rng = np.random.default_rng(seed)
  mask = draw_mask(rng)
  tokens = draw(rng, mask)
  fixed = [near(rng, np.full(ROWS, -9.0), 4) for _ in range(3)]
  cooling = {"floor": -2.5, "tau": 0.6}

  def oracle(tokens, held=None):
    total, mean = cold.sequence_logprobs(tokens, mask)
    weights = cold.cooling_weight(mean if held is None else held, **cooling)
    return cold.cw_dpo(fixed[0], total, *fixed[1:], weights, beta=0.2)

  _, held = cold.sequence_logprobs(tokens, mask)
  constant = cold.difference_quotient(lambda x: oracle(x, held), tokens)
  full = cold.difference_quotient(oracle, tokens)
  assert np.abs(constant - full).max() > 1e-3
  for differentiate_weight, want in ((False, constant), (True, full)):
    value, (grad,) = graded(
      library_cw_dpo_from_tokens,
      beta=0.2,
      differentiate_weight=differentiate_weight,
      **cooling,
    )(tokens, mask, *fixed)
    agree(value, oracle(tokens))
    agree_gradient(grad, want)
