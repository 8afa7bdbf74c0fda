"""What only the preference losses promise."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import strategies as st

from jaxvlm.losses import (
  cooling_weight,
  cw_dpo_loss,
  dpo_loss,
  focal_dpo_loss,
  hard_negatives,
  sequence_logprobs,
)
from tests.losses import cases

SEEDS = st.integers(0, 2**32 - 1)
SETTINGS = hypothesis.settings(max_examples=300, deadline=None, database=None)


def pairs(seed, size=6):
  x = cases.single(cases.draw("cw_dpo", seed, (size, 4)))
  four = [np.asarray(x[name]) for name in cases.PREFERENCE]
  return four, np.asarray(x["rejected_mean_logprobs"])


# Jitted, as all that hundreds of examples ask for.
@jax.jit
def of_the_reference(chosen, rejected, mean, beta):
  """Returns the losses of a policy that is its reference."""
  same = (chosen, rejected, chosen, rejected)
  return (
    dpo_loss(*same, beta=beta)[0],
    cw_dpo_loss(*same, mean, beta=beta, floor=-2.0, tau=1.0)[0],
    focal_dpo_loss(*same, beta=beta, gamma=0.0)[0],
  )


@hypothesis.given(seed=SEEDS, beta=st.floats(0.01, 5.0))
@SETTINGS
def test_policy_equal_to_reference_loses_log_two(seed, beta):
  (chosen, rejected, _, _), mean = pairs(seed)
  for loss in of_the_reference(chosen, rejected, mean, beta):
    np.testing.assert_allclose(loss, np.log(2.0), rtol=1e-6)


@functools.partial(jax.jit, static_argnums=0)
def gradients(loss, four, *rest):
  """(value, gradients) in the chosen and the rejected log-probabilities."""

  def value(chosen, rejected):
    return loss(chosen, rejected, *four[2:], *rest)[0]

  return jax.value_and_grad(value, argnums=(0, 1))(*four[:2])


PLAIN = functools.partial(dpo_loss, beta=0.3)
COOLED = functools.partial(cw_dpo_loss, beta=0.3, floor=-1.5, tau=0.8)
CONSTANT = functools.partial(COOLED, constant_weight=1.0)
# w_c → 1 as ℓ_floor → −∞.
HOT = functools.partial(COOLED, floor=-1e6)
UNFOCUSED = functools.partial(focal_dpo_loss, beta=0.3, gamma=0.0)


@hypothesis.given(seed=SEEDS)
@SETTINGS
def test_weight_one_and_gamma_zero_are_dpo(seed):
  four, mean = pairs(seed)
  expected = gradients(PLAIN, four)
  for found in (
    gradients(CONSTANT, four, mean),
    gradients(HOT, four, mean),
    gradients(UNFOCUSED, four),
  ):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
      found,
      expected,
    )


@jax.jit
def cooled(mean, floor, tau):
  return cooling_weight(mean, floor=floor, tau=tau)


@hypothesis.given(
  floor=st.floats(-8, 0), tau=st.floats(0.05, 4), gap=st.floats(20, 200)
)
@SETTINGS
def test_cooling_weight_has_its_ends(floor, tau, gap):
  def weight(mean):
    return cooled(np.float32(mean), np.float32(floor), np.float32(tau))

  assert weight(floor - gap * tau) < 1e-6
  assert weight(floor + gap * tau) > 1 - 1e-6
  np.testing.assert_allclose(weight(floor), 0.5, atol=1e-5)
  assert weight(floor - tau) < weight(floor) < weight(floor + tau)


@hypothesis.given(seed=SEEDS)
@SETTINGS
def test_rejected_gradient_is_beta_times_one_minus_a_times_weight(seed):
  four, mean = pairs(seed)
  _, (of_chosen, of_rejected) = gradients(COOLED, four, mean)
  weight = np.asarray(cooled(mean, -1.5, 0.8))
  won, lost = four[0] - four[2], four[1] - four[3]
  a = scipy.special.expit(0.3 * (won - weight * lost))
  scale = 0.3 * (1 - a) / len(a)
  np.testing.assert_allclose(of_rejected, scale * weight, rtol=1e-4, atol=1e-7)
  np.testing.assert_allclose(of_chosen, -scale, rtol=1e-4, atol=1e-7)


def test_weight_is_constant_unless_asked():
  four, mean = pairs(3)

  def loss(mean, **switch):
    return cw_dpo_loss(*four, mean, beta=0.3, floor=-1.5, tau=0.8, **switch)[0]

  assert not np.any(jax.grad(loss)(mean))
  assert np.all(jax.grad(loss)(mean, differentiate_weight=True) != 0)
  assert loss(mean) == loss(mean, differentiate_weight=True)


def test_an_easy_pair_moves_dpo_but_not_cw_dpo():
  """The defect that the cooling weight is for: a won pair still squeezes."""
  chosen, rejected = jnp.asarray([-5.0]), jnp.asarray([-80.0])
  reference = jnp.asarray([-6.0]), jnp.asarray([-75.0])

  def plain(rejected):
    return dpo_loss(chosen, rejected, *reference, beta=0.1)[0]

  def cooled(rejected):
    return cw_dpo_loss(
      chosen, rejected, *reference, rejected / 10, beta=0.1, floor=-3.0, tau=0.5
    )[0]

  assert jax.grad(plain)(rejected) > 0.03
  assert jax.grad(cooled)(rejected) < 1e-5


def test_hard_filter_removes_pairs():
  four, mean = pairs(4)
  kept = hard_negatives(mean, threshold=float(np.median(mean)))
  assert 0 < kept.sum() < kept.size
  loss, _ = dpo_loss(*four, beta=0.3, mask=kept)
  expected, _ = dpo_loss(*(x[np.asarray(kept)] for x in four), beta=0.3)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_extreme_margins_stay_finite():
  big = jnp.asarray([1e4, -1e4])
  zero = jnp.zeros(2)
  for loss in (
    lambda x: dpo_loss(x, zero, zero, zero, beta=1.0)[0],
    lambda x: focal_dpo_loss(x, zero, zero, zero, beta=1.0, gamma=2.0)[0],
  ):
    value, gradient = jax.value_and_grad(loss)(big)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))
    np.testing.assert_allclose(value, 5e3, rtol=1e-6)


def test_sequence_logprobs_of_nothing_are_zero():
  logprobs = jnp.asarray([[-1.0, -2.0], [jnp.nan, jnp.nan]])
  mask = jnp.asarray([[True, True], [False, False]])
  total, mean = sequence_logprobs(logprobs, mask)
  np.testing.assert_array_equal(total, [-3.0, 0.0])
  np.testing.assert_array_equal(mean, [-1.5, 0.0])


B = jnp.zeros(3)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: dpo_loss(B, B, B, B, beta=0), "beta is 0, expected > 0"),
    (lambda: dpo_loss(B, B[:2], B, B, beta=1), "rejected_logprobs has shape"),
    (lambda: dpo_loss(B, B, B, B, beta=1, mask=B), "mask has dtype float32"),
    (
      lambda: cw_dpo_loss(B, B, B, B, B, beta=1, floor=-3, tau=0),
      "tau is 0, expected > 0",
    ),
    (
      lambda: cw_dpo_loss(B, B, B, B, B[:1], beta=1, floor=-3, tau=1),
      "rejected_mean_logprobs has shape",
    ),
    (
      lambda: cw_dpo_loss(
        B, B, B, B, B, beta=1, floor=-3, tau=1, constant_weight=2
      ),
      "constant_weight is 2",
    ),
    (lambda: focal_dpo_loss(B, B, B, B, beta=1, gamma=-1), "gamma is -1"),
    (lambda: cooling_weight(B, floor=0.0, tau=-1.0), "tau is -1.0"),
    (lambda: sequence_logprobs(B, B), "mask has dtype"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
