"""The losses against a float64 reading of the papers written without them.

Batches and tolerances: tests/losses/cold_batches.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import losses
from jaxvlm.tokenstats import token_stats
from tests.losses.cold_batches import (
  EMPTY_ROW,
  ROWS,
  SEEDS,
  TOKENS,
  agree,
  agree_gradient,
  cases,
  draw,
  draw_mask,
  graded,
  near,
)
from tests.reference import cold

# --- token statistics


FIELDS = (
  "logprobs",
  "entropies",
  "top1",
  "mean_logprobs",
  "teacher_logprobs",
  "teacher_entropies",
  "reverse_kl",
  "forward_kl",
  "jsd",
)
VOCAB = 7


@jax.jit
def library_stats(hidden, head, th, tw, targets, mask, temperature, cotangents):
  def weighted(hidden, head):
    stats = token_stats(
      hidden,
      head,
      targets,
      mask,
      temperature=temperature,
      vocab_size=VOCAB,
      teacher_hidden=th,
      teacher_head=tw,
      jsd_beta=0.5,
      chunk=4,  # nine tokens: two chunks and a remainder
    )
    fields = {name: getattr(stats, name) for name in FIELDS}
    total = sum(jnp.sum(cotangents[n] * fields[n]) for n in cotangents)
    return total, fields

  grads, fields = jax.grad(weighted, argnums=(0, 1), has_aux=True)(hidden, head)
  return fields, grads


@cases
def test_token_statistics(seed):
  rng = np.random.default_rng(seed)
  mask = draw_mask(rng)[:3, :3]
  temperature = [0.7, 1.0, 1.6][seed % 3]
  # The heads are padded beyond the vocabulary, each to its own width; the
  # padding is large, so that one column too many would show.
  hidden = rng.normal(size=(3, 3, 4)).astype(np.float32)
  th = rng.normal(size=(3, 3, 6)).astype(np.float32)
  hidden[~mask] = th[~mask] = np.nan
  head = rng.normal(size=(4, VOCAB + 2)).astype(np.float32)
  tw = rng.normal(size=(6, VOCAB + 1)).astype(np.float32)
  head[:, VOCAB:] = tw[:, VOCAB:] = 9.0
  targets = rng.integers(0, VOCAB, mask.shape).astype(np.int32)
  # The teacher's own statistics are constants for the student.
  cotangents = {
    name: rng.normal(size=mask.shape).astype(np.float32)
    for name in FIELDS
    if not name.startswith("teacher")
  }
  fields, (got_hidden, got_head) = library_stats(
    hidden, head, th, tw, targets, mask, temperature, cotangents
  )

  def oracle(hidden, head):
    return cold.token_stats(
      hidden,
      head,
      targets,
      mask,
      temperature=temperature,
      vocab_size=VOCAB,
      teacher_hidden=th,
      teacher_head=tw,
    )

  want = oracle(hidden, head)
  for name in FIELDS:
    agree(fields[name], want[name])

  def weighted(hidden, head):
    stats = oracle(hidden, head)
    return sum(np.sum(cotangents[n] * stats[n]) for n in cotangents)

  agree_gradient(
    got_hidden, cold.difference_quotient(lambda x: weighted(x, head), hidden)
  )
  agree_gradient(
    got_head, cold.difference_quotient(lambda x: weighted(hidden, x), head)
  )


# --- SFT and SFT-C


def library_sft(logprobs, means, mask, **settings):
  return losses.sft_loss(logprobs, mask, mean_vocab_logprobs=means, **settings)


@cases
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sft(seed, smoothing):
  rng = np.random.default_rng(seed)
  mask = draw_mask(rng)
  logprobs, means = draw(rng, mask), draw(rng, mask, -9, -3)
  normalizer = [None, 17.0][seed % 2]
  value, grads = graded(
    library_sft, (0, 1), label_smoothing=smoothing, normalizer=normalizer
  )(logprobs, means, mask)

  def oracle(logprobs, means):
    return cold.sft(
      logprobs,
      mask,
      label_smoothing=smoothing,
      mean_vocab_logprobs=means,
      normalizer=normalizer,
    )

  agree(value, oracle(logprobs, means))
  agree_gradient(
    grads[0], cold.difference_quotient(lambda x: oracle(x, means), logprobs)
  )
  agree_gradient(
    grads[1], cold.difference_quotient(lambda x: oracle(logprobs, x), means)
  )


@cases
@pytest.mark.parametrize("floor", [1.0, 3.0, 3.9])
def test_sft_c(seed, floor):
  rng = np.random.default_rng(seed)
  mask, other = draw_mask(rng), draw_mask(rng)
  if seed == 0:
    other[:] = False
  positive, negative = draw(rng, mask), draw(rng, other, -6, -0.05)
  value, grads = graded(losses.sft_c_loss, (0, 2), floor=floor, weight=0.3)(
    positive, mask, negative, other
  )

  def oracle(positive, negative):
    return cold.sft_c(
      positive,
      mask,
      negative,
      other,
      floor=floor,
      weight=0.3,
      per_sequence=False,
    )

  agree(value, oracle(positive, negative))
  agree_gradient(
    grads[0], cold.difference_quotient(lambda x: oracle(x, negative), positive)
  )
  agree_gradient(
    grads[1], cold.difference_quotient(lambda x: oracle(positive, x), negative)
  )


# --- on-policy distillation


@cases
def test_opd_exact(seed):
  rng = np.random.default_rng(seed)
  mask = draw_mask(rng)
  kl = draw(rng, mask, 0, 2)
  value, (grad,) = graded(losses.opd_loss)(kl, mask)

  def oracle(kl):
    return cold.opd(kl, mask, per_sequence=False)

  agree(value, oracle(kl))
  agree_gradient(grad, cold.difference_quotient(oracle, kl))


@cases
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_opd_policy_gradient(seed, spread):
  rng = np.random.default_rng(seed)
  mask = draw_mask(rng)
  logprobs = draw(rng, mask)
  old, teacher = near(rng, logprobs, spread), draw(rng, mask)
  value, grads = graded(losses.opd_policy_gradient_loss, (0, 1, 2))(
    logprobs, old, teacher, mask
  )
  advantages = cold.sampled_advantages(logprobs, teacher, mask)
  agree(value, cold.opd_policy_gradient(logprobs, old, advantages, mask))
  want = cold.opd_policy_gradient_gradient(logprobs, old, advantages, mask)
  agree_gradient(grads[0], want)
  quotient = cold.difference_quotient(
    lambda x: cold.opd_policy_gradient(x, old, advantages, mask), logprobs
  )
  np.testing.assert_allclose(want, quotient, rtol=1e-6, atol=1e-9)
  np.testing.assert_array_equal(np.stack(grads[1:]), 0)


# --- GRPO


# The equations' 1/G leaves open what a row without tokens is; the library says
# padding, and counts the rows that hold one.
FULL_ROWS = ROWS - 1
NORMALIZATIONS = {
  "tokens": (losses.token_mean, cold.per_token),
  "sequences": (losses.sequence_mean, cold.per_sequence(FULL_ROWS)),
  "constant": (
    lambda mask: losses.constant_length(mask, 8),
    cold.per_length(FULL_ROWS, 8),
  ),
}


def library_grpo(
  logprobs, old, advantages, ref, mask, *, normalization, **settings
):
  weights, _ = NORMALIZATIONS[normalization]
  return losses.grpo_loss(
    logprobs,
    old,
    advantages,
    mask,
    weights=weights(mask),
    ref_logprobs=ref,
    **settings,
  )


@cases
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("kl_coef", [0.0, 0.04])
def test_grpo(seed, normalization, kl_coef):
  rng = np.random.default_rng(seed)
  mask = draw_mask(rng)
  logprobs = draw(rng, mask)
  old, ref = near(rng, logprobs), near(rng, logprobs, 1.0)
  advantages = rng.normal(size=ROWS).astype(np.float32)
  advantages[EMPTY_ROW] = 1.0
  settings = {"clip_low": 0.2, "clip_high": 0.28, "kl_coef": kl_coef}
  value, grads = graded(
    library_grpo, (0, 1, 2, 3), normalization=normalization, **settings
  )(logprobs, old, advantages, ref, mask)

  def oracle(logprobs):
    return cold.grpo(
      logprobs,
      old,
      advantages,
      mask,
      normalization=NORMALIZATIONS[normalization][1],
      ref_logprobs=ref,
      **settings,
    )

  agree(value, oracle(logprobs))
  agree_gradient(grads[0], cold.difference_quotient(oracle, logprobs))
  for constant in grads[1:]:
    np.testing.assert_array_equal(constant, 0)


def test_grpo_cases_meet_every_side_of_the_clip():
  """The batches above hold all four pairs (sign of A, clipped or not)."""
  seen = set()
  for seed in SEEDS:
    rng = np.random.default_rng(seed)
    mask = draw_mask(rng)
    logprobs = draw(rng, mask)
    old, _ = near(rng, logprobs), near(rng, logprobs, 1.0)
    advantages = rng.normal(size=ROWS)
    ratio = np.exp(logprobs - old)
    for i, t in np.argwhere(mask):
      side = np.sign(ratio[i, t] - 1) * (not 0.8 < ratio[i, t] < 1.28)
      seen.add((advantages[i] > 0, int(side)))
  assert seen == {(a, s) for a in (False, True) for s in (-1, 0, 1)}


@cases
@pytest.mark.parametrize("normalize_std", [False, True])
def test_group_advantages(seed, normalize_std):
  rng = np.random.default_rng(seed)
  rewards = rng.integers(0, 2, (5, 4)).astype(np.float32)
  rewards[0] = 1.0
  rewards[1] = rng.normal(size=4)
  got = losses.group_advantages(rewards, normalize_std=normalize_std)
  want = cold.group_advantages(
    rewards, normalize_std=normalize_std, ddof=1, epsilon=1e-6
  )
  agree(got, want)
  np.testing.assert_array_equal(got[0], 0)


@cases
def test_leave_one_out_advantages(seed):
  rng = np.random.default_rng(seed)
  rewards = rng.normal(size=(5, 4)).astype(np.float32)
  rewards[0] = 0.5
  got = losses.leave_one_out_advantages(rewards)
  agree(got, cold.leave_one_out_advantages(rewards))
  np.testing.assert_array_equal(got[0], 0)


# --- nothing counts


def test_a_batch_without_tokens_is_zero_in_value_and_gradient():
  mask = np.zeros((ROWS, TOKENS), bool)
  nan = np.full(mask.shape, np.nan, np.float32)
  ones = np.ones(ROWS, np.float32)
  for value, grads in (
    graded(losses.sft_loss)(nan, mask),
    graded(losses.sft_c_loss, (0, 2), floor=3.0, weight=1.0)(
      nan, mask, nan, mask
    ),
    graded(losses.opd_loss)(nan, mask),
    graded(losses.opd_policy_gradient_loss)(nan, nan, nan, mask),
    graded(losses.grpo_loss)(nan, nan, ones, mask),
  ):
    assert value == 0
    np.testing.assert_array_equal(np.stack(grads), 0)
