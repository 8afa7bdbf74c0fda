"""What only the supervised losses promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.losses import entropy_bonus, sft_c_loss, sft_loss
from tests.losses import cases


def test_hinge_is_of_the_whole_batch_also_under_microbatching():
  """Two halves, one below the floor and one above: only the mean decides."""
  negative = -jnp.asarray([[1.0, 1.0], [5.0, 5.0]])  # NLL 1 and 5: mean 3
  mask = jnp.ones((2, 2), bool)

  def total(negative, floor):
    shares = [
      sft_c_loss(
        jnp.zeros((1, 2)),
        mask[:1],
        negative[i : i + 1],
        mask[:1],
        floor=floor,
        weight=2.0,
        positive_normalizer=4.0,
        negative_normalizer=4.0,
        negative_mean=3.0,
      )[0]
      for i in range(2)
    ]
    return sum(shares)

  # Closed, although the first half alone is below the floor.
  value, gradient = jax.value_and_grad(total)(negative, 2.5)
  assert value == 0 and not np.any(gradient)
  # Open, although the second half alone is above it: 2·(3.5 − 3).
  value, gradient = jax.value_and_grad(total)(negative, 3.5)
  np.testing.assert_allclose(value, 1.0, rtol=1e-6)
  np.testing.assert_allclose(gradient, jnp.full((2, 2), 2.0 / 4), rtol=1e-6)


def test_penalty_pushes_negatives_down_and_only_below_the_floor():
  """The equation, not the prose that says the opposite."""
  negative, mask = -jnp.ones((1, 4)), jnp.ones((1, 4), bool)

  def loss(x, floor):
    return sft_c_loss(x, mask, x, mask, floor=floor, weight=3.0)[0]

  assert np.all(jax.grad(loss)(negative, 2.0) == (3.0 - 1.0) / 4)
  assert np.all(jax.grad(loss)(negative, 0.5) == -1.0 / 4)


def test_without_negatives_the_penalty_is_zero():
  logprobs, mask = -jnp.ones((2, 3)), jnp.ones((2, 3), bool)
  nothing = jnp.zeros((2, 3), bool)
  loss, metrics = sft_c_loss(
    logprobs, mask, logprobs * jnp.nan, nothing, floor=9.0, weight=1.0
  )
  assert loss == sft_loss(logprobs, mask)[0]
  assert metrics["loss/hinge_open"].value() == 0


def test_smoothing_of_one_is_the_uniform_target():
  logprobs = jnp.log(jnp.asarray([[0.7, 0.2, 0.1]]))
  mask = jnp.ones((1,), bool)
  loss, _ = sft_loss(
    logprobs[:, 0],
    mask,
    label_smoothing=1.0,
    mean_vocab_logprobs=logprobs.mean(-1),
  )
  np.testing.assert_allclose(loss, -np.mean(logprobs), rtol=1e-6)


def test_a_rate_that_jit_traces_is_allowed():
  x = cases.single(cases.draw("sft_smooth", 0, (2, 2)))

  def loss(alpha):
    return sft_loss(
      jnp.asarray(x["logprobs"]),
      jnp.asarray(x["mask"]),
      label_smoothing=alpha,
      mean_vocab_logprobs=jnp.asarray(x["mean_vocab_logprobs"]),
    )[0]

  np.testing.assert_allclose(jax.jit(loss)(0.1), loss(0.1), rtol=1e-6)


F = jnp.zeros((2, 3))
M = jnp.ones((2, 3), bool)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: sft_loss(F, M[:1]), r"mask has shape \(1, 3\), expected \(2, 3\)"),
    (lambda: sft_loss(F, F), "mask has dtype float32, expected bool"),
    (
      lambda: sft_loss(F, M, label_smoothing=0.1),
      "mean_vocab_logprobs is None",
    ),
    (lambda: sft_loss(F, M, label_smoothing=2), "label_smoothing is 2"),
    (
      lambda: sft_c_loss(F, M, F, M, floor=1.0, weight=-1.0),
      "weight is -1.0, expected 0",
    ),
    (
      lambda: sft_c_loss(F, M, F, M, floor=1.0, weight=1.0, negative_mean=1.0),
      "negative_mean and negative_normalizer belong together",
    ),
    (lambda: entropy_bonus(F, M[0], coef=1.0), "mask has shape"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
