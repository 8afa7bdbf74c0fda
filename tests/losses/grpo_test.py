"""What only the policy gradient and its advantages promise."""

import functools
import itertools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxvlm.losses import (
  constant_length,
  group_advantages,
  grpo_loss,
  leave_one_out_advantages,
  sequence_mean,
  token_mean,
)
from tests.losses import cases
from tests.reference import losses as oracle

SEEDS = st.integers(0, 2**32 - 1)
SETTINGS = hypothesis.settings(max_examples=300, deadline=None, database=None)
WEIGHTS = (token_mean, sequence_mean, lambda mask: constant_length(mask, 9))


def batch(seed, shape=(4, 5)):
  x = cases.single(cases.draw("grpo", seed, shape))
  return {key: np.asarray(value) for key, value in x.items()}


# Jitted: eager gradients of hundreds of examples are traced every time.
@functools.partial(jax.jit, static_argnums=0)
def on_policy(weighting, x):
  """Returns (weights, the loss's gradient where the policy is the old one)."""
  weights = weighting(x["mask"])

  def loss(logprobs):
    return grpo_loss(
      logprobs, x["logprobs"], x["advantages"], x["mask"], weights=weights
    )[0]

  return weights, jax.grad(loss)(x["logprobs"])


@hypothesis.given(seed=SEEDS, weighting=st.sampled_from(WEIGHTS))
@SETTINGS
def test_on_policy_gradient_is_reinforce(seed, weighting):
  x = batch(seed)
  weights, gradient = on_policy(weighting, x)
  expected = -np.asarray(weights) * np.asarray(x["advantages"])[:, None]
  np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@functools.partial(jax.jit, static_argnums=2)
def graded(x, rewards, normalize_std):
  """Returns advantages of both kinds, and (loss, gradient) of the first."""
  advantages = group_advantages(rewards, normalize_std=normalize_std)

  def loss(logprobs):
    return grpo_loss(
      logprobs, x["old_logprobs"], advantages[0], x["mask"], dual_clip=3.0
    )[0]

  others = leave_one_out_advantages(rewards)
  return advantages, others, jax.value_and_grad(loss)(x["logprobs"])


@hypothesis.given(
  seed=SEEDS,
  reward=st.floats(-1e3, 1e3, width=32),
  normalize_std=st.booleans(),
)
@SETTINGS
def test_equal_rewards_have_exactly_no_gradient(seed, reward, normalize_std):
  rewards = np.full((1, 4), reward, np.float32)
  advantages, others, (value, gradient) = graded(
    batch(seed), rewards, normalize_std
  )
  np.testing.assert_array_equal(advantages, 0.0)
  np.testing.assert_array_equal(others, 0.0)
  assert value == 0 and not np.any(gradient)


@hypothesis.given(seed=SEEDS, normalize_std=st.booleans())
@SETTINGS
def test_advantages_are_the_oracles(seed, normalize_std):
  rng = np.random.default_rng(seed)
  rewards = rng.choice([0.0, 0.1, 0.9, 1.0], size=(3, 5)).astype(np.float32)
  np.testing.assert_allclose(
    group_advantages(jnp.asarray(rewards), normalize_std=normalize_std),
    oracle.group_advantages(rewards.astype(float), normalize_std),
    rtol=1e-5,
    atol=1e-6,
  )
  np.testing.assert_allclose(
    leave_one_out_advantages(jnp.asarray(rewards)),
    oracle.leave_one_out(rewards.astype(float)),
    rtol=1e-5,
    atol=1e-6,
  )


@pytest.mark.parametrize("g", [2, 4, 5, 8])
@pytest.mark.parametrize("p", [0.02, 0.083, 0.5, 0.9])
def test_expected_group_variance_by_enumeration(g, p):
  """arXiv:2606.18487, Proposition 1: E[σ²] = p·(1−p)·(g−1)/g."""
  rewards = np.asarray(list(itertools.product([0.0, 1.0], repeat=g)))
  probability = np.prod(np.where(rewards == 1, p, 1 - p), axis=-1)
  advantages = group_advantages(jnp.asarray(rewards), normalize_std=False)
  variance = np.mean(np.asarray(advantages, float) ** 2, -1)
  np.testing.assert_allclose(
    np.sum(probability * variance), p * (1 - p) * (g - 1) / g, rtol=1e-5
  )


def test_clipping_is_one_sided():
  """A ratio out of range stops the gradient only in its own direction."""
  old = jnp.zeros((1, 1))
  mask = jnp.ones((1, 1), bool)

  def gradient(log_ratio, advantage, **options):
    def loss(x):
      return grpo_loss(x, old, jnp.asarray([advantage]), mask, **options)[0]

    return float(jax.grad(loss)(jnp.full((1, 1), log_ratio))[0, 0])

  up, down = float(np.log(1.25)), float(np.log(0.75))
  assert gradient(up, 1.0) == 0
  assert gradient(up, 1.0, clip_high=0.28) == pytest.approx(-1.25)
  assert gradient(up, -1.0) == pytest.approx(1.25)
  assert gradient(down, -1.0) == 0
  assert gradient(down, 1.0) == pytest.approx(-0.75)
  # Dual clip: a very likely bad token pushes no further than c.
  assert gradient(float(np.log(5.0)), -1.0) == pytest.approx(5.0)
  assert gradient(float(np.log(5.0)), -1.0, dual_clip=3.0) == 0
  # An overflowing ratio that is clipped away is no NaN.
  assert gradient(200.0, 1.0) == 0


def test_clip_fraction_counts_clipped_tokens():
  old = jnp.zeros((1, 4))
  log_ratio = jnp.log(jnp.asarray([[1.0, 1.25, 0.75, 9.0]]))
  mask = jnp.asarray([[True, True, True, False]])
  _, metrics = grpo_loss(log_ratio, old, jnp.asarray([1.0]), mask)
  np.testing.assert_allclose(
    metrics["policy/clip_fraction"].value(), 1 / 3, rtol=1e-6
  )


def test_advantages_of_tokens_and_of_sequences_agree():
  x = batch(0)
  whole, _ = grpo_loss(
    x["logprobs"], x["old_logprobs"], x["advantages"], x["mask"]
  )
  spread = jnp.broadcast_to(x["advantages"][:, None], x["mask"].shape)
  tokens, _ = grpo_loss(x["logprobs"], x["old_logprobs"], spread, x["mask"])
  assert whole == tokens


F = jnp.zeros((2, 3))
A = jnp.zeros(2)
M = jnp.ones((2, 3), bool)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: grpo_loss(F, F[:1], A, M), "old_logprobs has shape"),
    (lambda: grpo_loss(F, F, A[:1], M), "advantages has shape"),
    (lambda: grpo_loss(F, F, A, F), "mask has dtype"),
    (lambda: grpo_loss(F, F, A, M, kl_coef=0.1), "ref_logprobs is None"),
    (lambda: grpo_loss(F, F, A, M, entropy_coef=0.1), "entropies is None"),
    (lambda: grpo_loss(F, F, A, M, clip_low=-0.1), "clip_low is -0.1"),
    (lambda: grpo_loss(F, F, A, M, dual_clip=1.0), "dual_clip is 1.0"),
    (
      lambda: grpo_loss(F, F, A, M, weights=F, normalizer=1.0),
      "weights and normalizer were both given",
    ),
    (lambda: constant_length(M, 0), "length is 0"),
    (lambda: token_mean(F), "mask has dtype"),
    (
      lambda: group_advantages(jnp.zeros((2, 1))),
      r"expected \[N, G\] with G >= 2",
    ),
    (lambda: leave_one_out_advantages(jnp.zeros(4)), "rewards has shape"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_a_far_reference_leaves_loss_and_gradient_finite():
  """log π_ref − log π_θ of 94 nats once made 0 · inf out of a monitor."""
  logprobs, ref = jnp.full((1, 2), -95.0), jnp.full((1, 2), -1.0)
  mask, advantages = jnp.ones((1, 2), bool), jnp.ones(1)

  def loss(logprobs, kl_coef):
    return grpo_loss(
      logprobs, logprobs, advantages, mask, ref_logprobs=ref, kl_coef=kl_coef
    )[0]

  for kl_coef in (0.0, 0.01):
    value, gradient = jax.value_and_grad(loss)(logprobs, kl_coef)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()
