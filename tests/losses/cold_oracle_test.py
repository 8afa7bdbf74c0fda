"""The losses against a float64 reading of the papers written without them.

Ten random batches each, [4, 5], one row masked out entirely, NaN wherever the
mask is False. Inputs are float32 numbers, so that both sides start from the
same reals and the difference is arithmetic alone. Tolerances: a value is a sum
of at most 20 terms of size <= 10, each rounded a few times at 2⁻²⁴ = 6e-8, so
1e-5 relative (1e-6 absolute where terms cancel) leaves a factor of ten; a
gradient is compared with central differences of the oracle at 1e-4.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import losses
from jaxvlm.tokenstats import token_stats
from tests.reference import cold

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


# --- preferences


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
