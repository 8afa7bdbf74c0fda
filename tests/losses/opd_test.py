"""What only distillation promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.losses import opd_loss, opd_policy_gradient_loss
from jaxvlm.tokenstats import token_stats

VOCAB = 7


def distributions(seed):
  """Log-probabilities of a student, its old self and a teacher."""
  rng = np.random.default_rng(seed)
  student, old, teacher = rng.normal(size=(3, VOCAB)).astype(np.float32)
  return student, jax.nn.log_softmax(old), jax.nn.log_softmax(teacher)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("on_policy", [True, False])
def test_expected_sampled_gradient_is_the_exact_one(seed, on_policy):
  """Enumerates the vocabulary instead of sampling from it."""
  student, old, teacher = distributions(seed)
  if on_policy:
    old = jax.nn.log_softmax(student)
  # One row for every token that might have been drawn.
  mask = jnp.ones((VOCAB, 1), bool)

  def expected(student):
    log_p = jax.nn.log_softmax(student)

    def one(y, m):
      return opd_policy_gradient_loss(
        log_p[y][None], old[y][None], teacher[y][None], m
      )[0]

    return jnp.sum(jnp.exp(old) * jax.vmap(one)(jnp.arange(VOCAB), mask))

  def exact(student):
    log_p = jax.nn.log_softmax(student)
    kl = jnp.sum(jnp.exp(log_p) * (log_p - teacher))
    return opd_loss(kl[None], mask[0])[0]

  value, exact_gradient = jax.value_and_grad(exact)(student)
  np.testing.assert_allclose(
    jax.grad(expected)(student), exact_gradient, rtol=1e-4, atol=1e-6
  )
  # The surrogate's value is −E[ρ·A] = KL, too.
  np.testing.assert_allclose(expected(student), value, rtol=1e-5)


def test_teacher_equal_to_student_teaches_nothing():
  rng = np.random.default_rng(0)
  hidden = jnp.asarray(rng.normal(size=(3, 4, 8)), jnp.float32)
  head = jnp.asarray(rng.normal(size=(8, 31)), jnp.float32)
  targets, mask = jnp.zeros((3, 4), int), jnp.ones((3, 4), bool)

  def losses(hidden):
    stats = token_stats(
      hidden, head, targets, mask, teacher_hidden=hidden, teacher_head=head
    )
    exact, _ = opd_loss(stats.reverse_kl, mask)
    sampled, _ = opd_policy_gradient_loss(
      stats.logprobs,
      jax.lax.stop_gradient(stats.logprobs),
      stats.teacher_logprobs,
      mask,
    )
    return jnp.stack([exact, sampled])

  np.testing.assert_allclose(losses(hidden), 0.0, atol=1e-6)
  np.testing.assert_allclose(jax.jacrev(losses)(hidden), 0.0, atol=1e-6)


def test_fixed_advantage_ignores_the_teacher():
  _, old, teacher = distributions(1)
  mask = jnp.ones(VOCAB, bool)

  def gradient(teacher):
    return jax.grad(
      lambda x: opd_policy_gradient_loss(
        x, old, teacher, mask, fixed_advantage=-0.5
      )[0]
    )(old)

  np.testing.assert_array_equal(gradient(teacher), gradient(-teacher))
  np.testing.assert_allclose(gradient(teacher), 0.5 / VOCAB, rtol=1e-6)


def test_an_infinite_ratio_that_is_clipped_has_no_gradient():
  x = jnp.asarray([0.0])
  mask = jnp.ones(1, bool)

  def loss(logprobs):
    return opd_policy_gradient_loss(
      logprobs, x - 200.0, x + 1.0, mask, clip_low=0.2, clip_high=0.2
    )[0]

  value, gradient = jax.value_and_grad(loss)(x)
  np.testing.assert_allclose(value, -1.2, rtol=1e-6)
  assert gradient == 0


F = jnp.zeros((2, 3))
M = jnp.ones((2, 3), bool)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: opd_loss(F[0], M), "mask has shape"),
    (lambda: opd_loss(F, F), "mask has dtype float32"),
    (
      lambda: opd_policy_gradient_loss(F, F, F[:1], M),
      "teacher_logprobs has shape",
    ),
    (
      lambda: opd_policy_gradient_loss(F, F, F, M, clip_low=0.2),
      "expected both or neither",
    ),
    (
      lambda: opd_policy_gradient_loss(F, F, F, M, max_advantage=0),
      "max_advantage is 0, expected > 0",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
