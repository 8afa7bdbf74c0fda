"""Completions that go on in the next step: nothing lost, nothing twice."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.data.rows import HostBatch, Row
from jaxvlm.models import qwen2_5_vl
from jaxvlm.rollout import Slots, empty_samples, make_generate, make_refill
from jaxvlm.sampling import Sampling
from jaxvlm.train import carry as carries
from jaxvlm.typing import Batch
from tests import tiny

N, EXTRA, GROUP, LENGTH = 4, 3, 2, 11
OPTIONS = {
  "group": GROUP,
  "sampling": Sampling(0.9),
  "max_new_tokens": LENGTH,
  "eos_ids": (tiny.EOS, 5, 17, 23),
  "pad_id": tiny.PAD,
  "vocab_size": tiny.VOCAB,
}


@functools.cache
def source(step):
  """Returns four prompts that only this step has."""
  prompts = tiny.prompts(seed=step)
  rows = tuple(Row(f"{step}-{i}", "", "", ()) for i in range(N))
  empty = np.zeros((N, 0, 1), np.int32)
  return HostBatch(Batch(prompts, empty, empty > 0), rows)


@functools.cache
def refill():
  model = qwen2_5_vl.bind(tiny.CONFIG)
  return make_refill(model, Slots(N + EXTRA, GROUP, 2), enough=N, **OPTIONS)


def start():
  return carries.begin(empty_samples((EXTRA, GROUP), LENGTH))


def play(count, params=lambda step: tiny.params(), carry=None, first=0):
  """Returns the rollouts of `count` steps and the last carry."""
  carry = start() if carry is None else carry
  rollouts = []
  for step in range(first, first + count):
    rollouts.append(
      carries.roll_out(
        refill(), params(step), source, carry, step, jax.random.key(0)
      )
    )
    carry = rollouts[-1].carry
  return rollouts, carry


@pytest.fixture(scope="module")
def played():
  return play(5)


def test_every_prompt_is_trained_on_once(played):
  rollouts, carry = played
  ids = [row.id for rollout in rollouts for row in rollout.host.rows]
  waiting = [f"{s}-{p}" for s, p in zip(carry.steps, carry.places, strict=True)]
  brought = [f"0-{i}" for i in range(EXTRA)]
  brought += [f"{step}-{i}" for step in range(1, 6) for i in range(N)]
  assert sorted(ids + waiting) == sorted(brought)
  assert all(len(rollout.host.rows) == N for rollout in rollouts)


def test_every_token_is_counted_in_the_step_that_drew_it(played):
  rollouts, carry = played
  trained = sum(int(rollout.samples.mask.sum()) for rollout in rollouts)
  counted = [int(rollout.tokens) for rollout in rollouts]
  assert sum(counted) == trained + int(carry.samples.mask.sum())
  for rollout, count in zip(rollouts, counted, strict=True):
    assert rollout.drawn.sum() <= count <= rollout.samples.slot_steps


def test_what_waits_is_unfinished_and_what_leaves_is_complete(played):
  rollouts, _ = played
  carried = 0
  for rollout in rollouts:
    samples = jax.device_get(rollout.samples)
    assert (samples.finished | samples.mask[..., -1]).all()
    carried += int(rollout.carry.samples.mask.sum())
    # What is older was there before; what is drawn now was not.
    assert not (rollout.drawn & ~samples.mask).any()
  assert carried > 0
  assert any((r.samples.mask & ~r.drawn).any() for r in rollouts[1:])


@pytest.mark.slow
def test_an_interrupted_completion_is_the_uninterrupted_one(played):
  """With one policy, a prompt says what it would have said in one go."""
  rollouts, _ = played
  whole = make_generate(qwen2_5_vl.bind(tiny.CONFIG), **OPTIONS)
  places = np.arange(N, dtype=np.int32)
  for rollout in rollouts:
    for i, row in enumerate(rollout.host.rows):
      step, place = map(int, row.id.split("-"))
      key = jax.random.fold_in(jax.random.key(0), step)
      prompts = source(step).batch.prompts
      want = whole(tiny.params(), prompts, key, places)
      np.testing.assert_array_equal(
        rollout.samples.tokens[i], want.tokens[place]
      )
      np.testing.assert_allclose(
        rollout.samples.logprobs[i], want.logprobs[place], atol=1e-5
      )


def test_older_tokens_keep_the_statistics_of_their_policy():
  steps = play(3, params=lambda step: tiny.params(seed=step))[0]
  for before, after in itertools.pairwise(steps):
    old = jax.device_get(before.carry)
    for i, row in enumerate(after.host.rows):
      step, place = map(int, row.id.split("-"))
      where = np.flatnonzero((old.steps == step) & (old.places == place))
      if not len(where):
        assert np.array_equal(after.drawn[i], after.samples.mask[i])
        continue
      kept = old.samples.mask[where[0]]
      for name in ("tokens", "logprobs", "entropies"):
        np.testing.assert_array_equal(
          np.asarray(getattr(after.samples, name))[i][kept],
          np.asarray(getattr(old.samples, name))[where[0]][kept],
        )
      np.testing.assert_array_equal(
        after.drawn[i], after.samples.mask[i] & ~kept
      )


def test_a_carry_that_was_saved_goes_on_to_the_bit(played):
  _, between = play(2)
  saved = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), between)
  rest, carry = play(3, carry=saved, first=2)
  for a, b in zip(played[0][2:], rest, strict=True):
    jax.tree.map(np.testing.assert_array_equal, a.samples, b.samples)
  jax.tree.map(np.testing.assert_array_equal, played[1], carry)
