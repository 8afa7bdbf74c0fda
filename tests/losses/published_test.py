"""Numbers that others have published for the same formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.losses import dpo_loss, group_advantages, grpo_loss, sft_loss
from jaxvlm.tokenstats import token_stats


def test_torchtune_dpo():
  """pytorch/torchtune, tests/torchtune/rlhf/loss/test_dpo_loss.py."""
  chosen = jnp.asarray([-0.5, -10.0, -1.0])
  rejected = jnp.asarray([-0.1, -30.0, -21.0])
  ref_chosen = jnp.asarray([-0.5, -10.1, -0.1])
  ref_rejected = jnp.asarray([-0.1, -20.1, -0.1])
  expected = np.log1p(np.exp([0.0, -1.0, -2.0]))
  for i in range(3):
    alone = slice(i, i + 1)
    loss, _ = dpo_loss(
      chosen[alone],
      rejected[alone],
      ref_chosen[alone],
      ref_rejected[alone],
      beta=0.1,
    )
    np.testing.assert_allclose(loss, expected[i], rtol=1e-5, atol=1e-6)
  loss, _ = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.1)
  np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)


def jsd(student, teacher, beta):
  """Generalized JSD of two distributions given by probabilities."""
  one = jnp.ones((1, 1), jnp.float32)
  return token_stats(
    one,
    jnp.log(jnp.asarray([student], jnp.float32)),
    jnp.zeros(1, int),
    jnp.ones(1, bool),
    teacher_hidden=one,
    teacher_head=jnp.log(jnp.asarray([teacher], jnp.float32)),
    jsd_beta=beta,
  ).jsd[0]


def test_trl_generalized_jsd():
  """huggingface/trl, test_gkd_trainer.py, TestGeneralizedJSDLoss."""
  student, teacher = [0.1, 0.9], [0.9, 0.1]
  kl = 0.8 * np.log(9.0)  # both directions of this pair
  np.testing.assert_allclose(jsd(student, teacher, 1), kl, atol=1e-5)
  np.testing.assert_allclose(jsd(student, teacher, 0), kl, atol=1e-5)
  uniform = [0.2] * 5
  np.testing.assert_allclose(jsd(uniform, uniform, 0.5), 0.0, atol=1e-6)
  p, q = [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]
  assert abs(jsd(p, q, 0.1) - jsd(q, p, 0.1)) > 1e-3
  np.testing.assert_allclose(jsd(p, q, 0.5), jsd(q, p, 0.5), rtol=1e-5)


# What jax.random.uniform gives for key 0 in the generator's old layout, on
# which the published numbers rest.
@pytest.fixture
def old_random_layout():
  with jax.threefry_partitionable(False):
    yield


def test_tunix_group_advantages(old_random_layout):
  """google/tunix, tests/rl/grpo/grpo_helpers_test.py (ε was 1e-4)."""
  rewards = jax.random.uniform(jax.random.key(0), shape=(1, 6))
  advantages = group_advantages(rewards.reshape(2, 3), epsilon=1e-4)
  np.testing.assert_allclose(
    advantages.reshape(-1),
    [0.307407, -1.117304, 0.809897, 1.094044, -0.22857, -0.865474],
    rtol=1e-5,
    atol=1e-5,
  )


def test_tunix_k3(old_random_layout):
  """google/tunix, tests/rl/grpo/grpo_helpers_test.py."""
  policy, reference = (
    jax.random.uniform(key, shape=(2, 2, 4))
    for key in jax.random.split(jax.random.key(0))
  )
  expected = [
    [[0.0654075, 0.220744, 0.0545462, 0.1321163],
     [0.1168784, 0.0089617, 0.0915209, 0.0211542]],
    [[0.080888, 0.1209372, 0.0348731, 0.0845257],
     [0.0023897, 0.0076445, 0.2349406, 0.0113707]],
  ]  # fmt: skip
  for i in np.ndindex(2, 2, 4):
    mask = jnp.zeros((2, 2, 4), bool).at[i].set(True)
    loss, metrics = grpo_loss(
      policy,
      policy,
      jnp.zeros((2, 2)),
      mask,
      ref_logprobs=reference,
      kl_coef=1.0,
    )
    value = expected[i[0]][i[1]][i[2]]
    np.testing.assert_allclose(loss, value, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
      metrics["policy/kl_ref"].value(), value, rtol=1e-4, atol=1e-6
    )


CLASSES = 50


def unlearn(logits, label, rate=0.5):
  """One step up the loss of `label`: returns (before, after) probabilities.

  The toy of Joshua-Ren/Learning_dynamics_LLM (arXiv:2407.10490, Section 3.3):
  a linear softmax of 50 classes and one input.
  """

  def loss(head):
    mask = jnp.ones(1, bool)
    stats = token_stats(jnp.ones((1, 1)), head, jnp.asarray([label]), mask)
    return sft_loss(stats.logprobs, mask)[0]

  head = jnp.asarray(logits, jnp.float32)[None]
  after = head + rate * jax.grad(loss)(head)
  return jax.nn.softmax(head[0]), jax.nn.softmax(after[0])


def peaky(height):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=CLASSES)
  logits[7] = logits.max() + height
  return logits


@pytest.mark.parametrize("height", [0.0, 2.0, 6.0])
def test_squeezing_label_falls_and_the_largest_other_rises(height):
  before, after = unlearn(peaky(height), label=3)
  assert after[3] < before[3]
  assert after[7] > before[7]


def test_squeezing_richer_get_richer():
  """The relative change grows with the probability, the label aside."""
  before, after = unlearn(peaky(2.0), label=3)
  others = np.delete(np.arange(CLASSES), 3)
  order = others[np.argsort(before[others])]
  change = np.log(np.asarray(after / before))[order]
  assert np.all(np.diff(change) >= -1e-6)


def test_squeezing_is_worse_for_a_peakier_policy():
  """Only the peak gains, and every other class loses, once it is peaky."""

  def gainers(height):
    before, after = unlearn(peaky(height), label=3)
    return set(np.nonzero(np.asarray(after > before))[0])

  assert gainers(8.0) == {7}
  assert len(gainers(0.0)) > 1


def test_squeezing_is_stronger_for_an_unlikely_label():
  """The smaller π(y⁻), the larger the share of its loss that the peak takes."""
  logits = peaky(4.0)
  shares = []
  for depth in (-6.0, -2.0, 1.0):
    logits[3] = depth
    before, after = unlearn(logits, label=3)
    others = np.delete(np.arange(CLASSES), [3, 7])
    shares.append(float((after - before)[others].sum()))
  assert shares[0] < shares[1] < shares[2]
