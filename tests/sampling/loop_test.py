"""The decode loop on a fixed table of logits, against plain NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxvlm.sampling import (
  Decoding,
  Sampling,
  completion_keys,
  end_tokens,
  root_key,
  sample_loop,
  truncate,
)
from jaxvlm.sampling.draw import invert

N, G, T, V, PAD, EOS = 3, 4, 8, 11, 0, 7
FIELDS = ("logprobs", "entropies", "top1", "sampling_logprobs")


def tables(seed=0, eos_bias=1.0):
  """Returns f32[N, V, V]: logits of the next token by prompt and token."""
  table = np.random.default_rng(seed).normal(size=(N, V, V), scale=1.5)
  table[..., EOS] += eos_bias
  return table.astype(np.float32)


def decode(tokens, step, table):
  """Reads the next logits from the table, which is the cache."""
  return jax.vmap(lambda rows, row: rows[row])(table, tokens), table


@functools.partial(
  jax.jit, static_argnames=("sampling", "group", "length", "eos", "read")
)
def run(
  table,
  sampling=Sampling(),  # noqa: B008  frozen
  *,
  key=0,
  ids=(0, 1, 2),
  group=G,
  length=T,
  eos=(EOS,),
  read=decode,
):
  """Samples; the first token follows token 1."""
  n = table.shape[0]
  first = jnp.broadcast_to(table[:, None, 1], (n, group, V))
  keys = completion_keys(jax.random.key(key), jnp.asarray(ids), group)
  rules = Decoding(sampling, length, PAD, end_tokens(eos, V))
  return sample_loop(read, first, table, keys, rules)


RULES = (
  Sampling(),
  Sampling(0.0),
  Sampling(0.7),
  Sampling(1.3, top_k=3, top_p=0.9, min_p=0.05),
)


@pytest.fixture(scope="module", params=RULES, ids=str)
def drawn(request):
  """Returns (sampling, table, samples as NumPy)."""
  table = tables()
  samples = run(table, request.param)
  return request.param, table, jax.device_get(samples)


def test_statistics_equal_float64(drawn):
  sampling, table, samples = drawn
  temperature = sampling.temperature or 1.0
  allowed = np.asarray(truncate(table / temperature, sampling), np.float64)
  largest = 0.0
  for n, g in np.ndindex(N, G):
    previous = 1
    for t in range(int(samples.mask[n, g].sum())):
      logits = table[n, previous].astype(np.float64) / temperature
      logp = special.log_softmax(logits)
      token = samples.tokens[n, g, t]
      kept = allowed[n, previous]
      expected = {
        "logprobs": logp[token],
        "entropies": -(np.exp(logp) * logp).sum(),
        "top1": np.exp(logp).max(),
        "sampling_logprobs": special.log_softmax(kept)[token],
      }
      if sampling.temperature == 0:
        assert token == np.argmax(logits)
        expected["sampling_logprobs"] = logp[token]
      for name, value in expected.items():
        found = getattr(samples, name)[n, g, t]
        largest = max(largest, abs(found - value))
      previous = token
  assert largest < 2e-6


def test_everything_behind_the_end_is_empty(drawn):
  _, _, samples = drawn
  lengths = samples.mask.sum(-1)
  at = np.arange(T)
  np.testing.assert_array_equal(samples.mask, at < lengths[..., None])
  ends = (samples.tokens == EOS) & samples.mask
  np.testing.assert_array_equal(ends.any(-1), samples.finished)
  # The end belongs to the completion, is its last token, and occurs once.
  last = np.take_along_axis(samples.tokens, lengths[..., None] - 1, -1)[..., 0]
  np.testing.assert_array_equal(last == EOS, samples.finished)
  assert (ends.sum(-1) <= 1).all()
  assert (lengths[~samples.finished] == T).all()
  assert (samples.tokens[~samples.mask] == PAD).all()
  for name in FIELDS:
    assert (getattr(samples, name)[~samples.mask] == 0).all()


def test_greedy_is_the_same_in_every_slot():
  samples = run(tables(), Sampling(0.0), key=3)
  np.testing.assert_array_equal(
    samples.tokens, np.broadcast_to(samples.tokens[:, :1], (N, G, T))
  )


def unrolled(table, sampling, keys, eos):
  """All T steps, one completion at a time, with no early exit."""
  steps = jnp.arange(T)
  per_step = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
  folded = jax.vmap(per_step, in_axes=(0, None))(keys.ravel(), steps)
  uniform = jax.vmap(jax.vmap(jax.random.uniform))(folded).reshape(N, G, T)
  shifted = table - table.max(-1, keepdims=True)
  mass = np.exp(np.asarray(truncate(shifted / sampling.temperature, sampling)))
  edges = np.cumsum(mass, -1, dtype=np.float64)
  tokens = np.full((N, G, T), PAD)
  for n, g in np.ndindex(N, G):
    previous = 1
    for t in range(T):
      passed = (
        edges[n, previous] > float(uniform[n, g, t]) * edges[n, previous, -1]
      )
      previous = int(np.argmax(passed))
      tokens[n, g, t] = previous
      if previous in eos:
        break
  return tokens


def test_early_exit_changes_nothing():
  table, sampling = tables(eos_bias=3.0), Sampling(0.8, top_k=6)
  samples = run(table, sampling)
  assert samples.finished.all() and samples.mask.sum(-1).max() < T
  keys = completion_keys(jax.random.key(0), jnp.arange(N), G)
  expected = unrolled(table, sampling, keys, (EOS,))
  np.testing.assert_array_equal(samples.tokens, expected)


def test_leaves_early_and_at_once_where_all_end_at_the_first_token():
  calls = []

  def counting(tokens, step, cache):
    calls.append(int(step))
    return decode(tokens, step, cache)

  with jax.disable_jit():
    samples = run(tables(eos_bias=100.0), read=counting)
  assert not calls  # nothing had to be read
  assert samples.finished.all()
  np.testing.assert_array_equal(samples.mask.sum(-1), np.ones((N, G)))
  assert (samples.tokens[..., 0] == EOS).all()
  assert (samples.tokens[..., 1:] == PAD).all()
  assert (samples.logprobs[..., 1:] == 0).all()


def test_never_ending_completions_fill_the_length():
  samples = run(tables(eos_bias=-100.0))
  assert not samples.finished.any() and samples.mask.all()


def test_every_token_of_the_eos_list_ends():
  samples = jax.device_get(run(tables(), eos=(EOS, 3, 5), length=20))
  assert samples.finished.all()
  lengths = samples.mask.sum(-1)
  last = np.take_along_axis(samples.tokens, lengths[..., None] - 1, -1)
  assert set(last.ravel().tolist()) == {EOS, 3, 5}
  inner = samples.mask & (np.arange(20) < lengths[..., None] - 1)
  assert not np.isin(samples.tokens[inner], (EOS, 3, 5)).any()


def test_a_completion_depends_on_no_slot_and_no_neighbor():
  def program(table, ids):
    return jax.device_get(run(table, Sampling(0.9), ids=ids))

  table, ids = tables(), np.array([5, 2, 9])
  base = program(table, ids)
  order = np.array([2, 0, 1])
  moved = program(table[order], ids[order])
  for a, b in zip(base[:-1], moved[:-1], strict=True):
    np.testing.assert_array_equal(a[order], b)
  other = table.copy()
  other[1:] = tables(seed=8)[1:]
  beside = program(other, np.array([5, 1, 0]))
  for a, b in zip(base[:-1], beside[:-1], strict=True):
    np.testing.assert_array_equal(a[0], b[0])
  assert (base.tokens[1:] != beside.tokens[1:]).any()


def test_samples_of_a_prompt_differ_and_follow_the_key():
  a, b, c = (run(tables(), key=k).tokens for k in (0, 0, 1))
  np.testing.assert_array_equal(a, b)
  assert (a != c).any()
  assert len({tuple(row) for row in np.asarray(a[0]).tolist()}) > 1


def test_a_larger_group_begins_with_the_same_completions():
  few, many = (run(tables(), group=group).tokens for group in (2, 4))
  np.testing.assert_array_equal(few, many[:, :2])


@pytest.mark.parametrize(
  "sampling",
  [Sampling(), Sampling(0.7, top_k=5), Sampling(1.5, top_p=0.8, min_p=0.02)],
  ids=str,
)
def test_frequencies_follow_the_truncated_distribution(sampling):
  count = 20_000
  table = tables()[:1]
  samples = run(table, sampling, ids=(0,), group=count, length=1)
  seen = np.bincount(np.asarray(samples.tokens).ravel(), minlength=V)
  kept = truncate(jnp.asarray(table[0, 1] / sampling.temperature), sampling)
  expected = special.softmax(np.asarray(kept, np.float64))
  assert seen[expected == 0].sum() == 0
  some = expected > 0
  _, p = stats.chisquare(seen[some], count * expected[some])
  assert p > 1e-3


def test_a_vanishing_probability_makes_no_nan():
  table = tables()
  table[..., 2] = -1e9
  table[..., 4] = -np.inf
  samples = jax.device_get(run(table, Sampling(0.01)))
  for name in FIELDS:
    assert np.isfinite(getattr(samples, name)).all(), name
  assert not np.isin(samples.tokens[samples.mask], (2, 4)).any()


def test_the_draw_inverts_the_cumulated_mass():
  rng = np.random.default_rng(0)
  mass = rng.exponential(size=(200, 37)) * (rng.random((200, 37)) < 0.5)
  mass[:, 20] += 1e-3  # not all 0
  mass = mass.astype(np.float32)
  uniform = rng.random(200).astype(np.float32)
  uniform[:3] = 0.0, np.nextafter(np.float32(1), np.float32(0)), 0.5
  found = np.asarray(invert(jnp.asarray(mass), jnp.asarray(uniform)))
  edges = np.cumsum(mass.astype(np.float64), -1)
  target = uniform * edges[:, -1]
  rows = np.arange(200)
  assert (mass[rows, found] > 0).all()
  slack = 1e-6 * edges[:, -1]
  assert (edges[rows, found] > target - slack).all()
  assert (edges[rows, found] - mass[rows, found] <= target + slack).all()


def test_slot_steps_count_what_was_computed():
  samples = run(tables(eos_bias=3.0), length=20)
  longest = int(samples.mask.sum(-1).max())
  assert int(samples.slot_steps) == N * G * longest


@pytest.mark.parametrize("seed", [-1, 2**32, 2**32 + 5, 2**63])
def test_a_seed_beyond_its_bits_is_refused(seed):
  with pytest.raises(ValueError, match=f"seed is {seed}, expected 0 … 4294967"):
    root_key(seed)
  highest = jax.random.key_data(root_key(2**32 - 1))
  assert highest.tolist() == [0, 2**32 - 1]
