"""Refilled slots give the completions of plain waves, whatever the slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.models import qwen2_5_vl
from jaxvlm.rollout import Slots, make_generate, make_refill
from jaxvlm.rollout.refill import Assignment, _Job, assign, complete
from jaxvlm.sampling import Decoding, Samples, Sampling
from tests import tiny

GROUP, LENGTH = 5, 13
IDS = np.array([4, 0, 7, 2], np.int32)
ROWS = [name for name in Samples._fields if name != "slot_steps"]
OPTIONS = {
  "group": GROUP,
  "sampling": Sampling(0.9, top_k=20),
  "max_new_tokens": LENGTH,
  "eos_ids": (tiny.EOS, 5, 17, 23, 31),
  "pad_id": tiny.PAD,
  "vocab_size": tiny.VOCAB,
}


def model():
  return qwen2_5_vl.bind(tiny.CONFIG)


@pytest.fixture(scope="module")
def params():
  return tiny.params()


@pytest.fixture(scope="module")
def waves(params):
  generate = make_generate(model(), **OPTIONS)
  return jax.device_get(
    generate(params, tiny.prompts(), jax.random.key(3), IDS)
  )


@pytest.mark.parametrize(
  "slots",
  [
    Slots(rows=2, width=2, segment=3),
    # More rows than prompts, a slot for everyone, one for all.
    *(
      pytest.param(slots, marks=pytest.mark.slow)
      for slots in (Slots(7, 2, 30), Slots(4, 5, 4), Slots(1, 1, 1))
    ),
  ],
  ids=str,
)
def test_refilled_slots_give_the_completions_of_plain_waves(
  params, waves, slots
):
  generate = make_refill(model(), slots, **OPTIONS)
  found = jax.device_get(
    generate(params, tiny.prompts(), jax.random.key(3), IDS)
  )
  for name in ("tokens", "mask", "finished"):
    np.testing.assert_array_equal(getattr(found, name), getattr(waves, name))
  for name in ("logprobs", "entropies", "top1", "sampling_logprobs"):
    np.testing.assert_allclose(
      getattr(found, name), getattr(waves, name), atol=1e-5, err_msg=name
    )
  kept = int(found.mask.sum())
  assert kept <= int(found.slot_steps)


def test_few_slots_that_refill_compute_less_than_waves(params, waves):
  generate = make_refill(model(), Slots(2, 2, 2), **OPTIONS)
  found = generate(params, tiny.prompts(), jax.random.key(3), IDS)
  assert int(found.slot_steps) < int(waves.slot_steps)


def test_a_completion_depends_on_no_slot_and_no_neighbor_to_the_bit(params):
  """Another order and other prompts beside it: another slot, another time."""
  generate = make_refill(model(), Slots(2, 2, 3), **OPTIONS)
  front, other = tiny.prompts(), tiny.prompts(seed=5)
  order = np.array([2, 3, 0, 1])

  def rows(name, axis):
    mixed = np.concatenate(
      [
        np.take(getattr(front, name), [0, 1], axis),
        np.take(getattr(other, name), [2, 3], axis),
      ],
      axis,
    )
    return np.take(mixed, order, axis)

  mixed = front._replace(
    **{
      name: rows(name, 1 if name == "positions" else 0)
      for name in front._fields
    }
  )
  a, b = (
    jax.device_get(generate(params, prompts, jax.random.key(3), ids))
    for prompts, ids in ((front, IDS), (mixed, IDS[order]))
  )
  for name in ROWS:
    for here, there in ((0, 2), (1, 3)):
      np.testing.assert_array_equal(
        getattr(a, name)[here], getattr(b, name)[there], err_msg=name
      )
  assert (a.tokens[2] != b.tokens[0]).any()


def simulate(lengths, slots):
  """Plays a schedule with given lengths; returns (steps, who ran where)."""
  n, group = lengths.shape
  shape = (slots.rows, slots.width)
  state = Assignment(
    jnp.full(slots.rows, -1),
    jnp.zeros(shape, int),
    jnp.zeros(shape, bool),
    jnp.zeros(n, int),
    jnp.zeros((), int),
  )
  rest = np.zeros(shape, int)
  seen, steps = [], 0
  step, wanted = jax.jit(assign), jnp.full(n, group)
  while (rest > 0).any() or (np.asarray(state.started) < group).any():
    state = step(state, jnp.asarray(rest == 0), wanted)
    prompt = np.broadcast_to(np.asarray(state.prompt)[:, None], shape)
    sample, fresh = np.asarray(state.turn), np.asarray(state.fresh)
    assert not (fresh & (rest > 0)).any()  # nobody is thrown out
    seen += zip(prompt[fresh].tolist(), sample[fresh].tolist(), strict=True)
    rest = np.where(fresh, lengths[prompt, np.minimum(sample, group - 1)], rest)
    rest = np.maximum(rest - slots.segment, 0)
    steps += slots.segment
  return steps, seen


@pytest.mark.parametrize(
  "n,slots",
  [
    (6, Slots(2, 3, 4)),
    (1, Slots(3, 2, 4)),
    (5, Slots(8, 1, 1)),
    (9, Slots(3, 8, 8)),
  ],
  ids=str,
)
def test_every_completion_is_handed_out_once(n, slots):
  lengths = np.random.default_rng(0).geometric(0.1, (n, 7))
  steps, seen = simulate(lengths, slots)
  assert sorted(seen) == [(p, g) for p in range(n) for g in range(7)]
  places = slots.rows * slots.width
  whole = -(-lengths // slots.segment) * slots.segment
  assert steps >= max(whole.max(), whole.sum() / places)


def test_idle_rows_help_with_the_last_prompts():
  """One prompt is left with most of its group: all rows work on it."""
  state = Assignment(
    jnp.array([0, 1, 2]),
    jnp.zeros((3, 2), int),
    jnp.zeros((3, 2), bool),
    jnp.array([2, 8, 8]),
    jnp.array(3),
  )
  done = jnp.array([[False, True], [True, True], [True, True]])
  after = assign(state, done, jnp.full(3, 8))
  np.testing.assert_array_equal(after.prompt, [0, 0, 1])
  assert after.fresh.tolist() == [[False, True], [True, True], [False] * 2]
  assert after.turn[0, 1] == 2 and after.turn[1].tolist() == [3, 4]


def cut(samples, lengths):
  """Returns the samples as if they had been stopped at some length."""
  lengths = np.minimum(lengths, samples.mask.sum(-1))
  mask = np.arange(LENGTH) < lengths[..., None]
  whole = lengths == samples.mask.sum(-1)
  rows = {
    name: np.where(mask, getattr(samples, name), 0)
    for name in ROWS
    if name not in ("tokens", "mask", "finished")
  }
  return Samples(
    tokens=np.where(mask, samples.tokens, tiny.PAD),
    mask=mask,
    finished=samples.finished & whole,
    slot_steps=np.int32(0),
    **rows,
  )


@pytest.fixture(scope="module")
def resuming():
  return make_refill(model(), Slots(2, 3, 4), **OPTIONS)


def test_what_was_cut_off_goes_on_as_if_it_had_not_been(
  params, waves, resuming
):
  rng = np.random.default_rng(1)
  earlier = cut(waves, rng.integers(0, LENGTH, (len(IDS), GROUP)))
  begun = earlier.mask.sum(-1)
  assert (begun == 0).any() and ((begun > 0) & ~earlier.finished).any()
  key = jax.random.key(3)
  found = jax.device_get(resuming(params, tiny.prompts(), key, IDS, earlier))
  for name in ("tokens", "mask", "finished"):
    np.testing.assert_array_equal(getattr(found, name), getattr(waves, name))
  np.testing.assert_allclose(found.logprobs, waves.logprobs, atol=1e-5)
  new = found.mask.sum() - earlier.mask.sum()
  assert new <= found.slot_steps < waves.slot_steps


def test_earlier_statistics_are_those_of_the_policy_that_drew(
  params, waves, resuming
):
  earlier = cut(waves, np.full((len(IDS), GROUP), 4))
  other = tiny.params(seed=1)
  key = jax.random.key(3)
  found = jax.device_get(resuming(other, tiny.prompts(), key, IDS, earlier))
  kept = earlier.mask
  for name in ROWS[1:]:
    if name not in ("mask", "finished"):
      np.testing.assert_array_equal(
        getattr(found, name)[kept], getattr(earlier, name)[kept]
      )
  later = found.mask & ~kept
  assert later.any()
  assert np.abs(found.logprobs - waves.logprobs)[later].max() > 1e-2


def test_it_stops_when_enough_prompts_are_complete(params, waves):
  generate = make_refill(model(), Slots(2, 5, 2), enough=1, **OPTIONS)
  key = jax.random.key(3)
  found = jax.device_get(generate(params, tiny.prompts(), key, IDS))
  ready = np.asarray(complete(found)).all(-1)
  assert 1 <= ready.sum() < 4
  for name in ("tokens", "mask", "finished"):
    a, b = getattr(found, name), getattr(waves, name)
    np.testing.assert_array_equal(a[ready], b[ready])
  # The others are beginnings of what they would have been.
  kept = found.mask
  np.testing.assert_array_equal(found.tokens[kept], waves.tokens[kept])


def test_a_resumed_completion_knows_how_much_of_a_stop_it_has_written():
  """The state behind its tokens, whatever stands behind them."""
  rng = np.random.default_rng(0)
  ends = rng.integers(0, 4, (5, tiny.VOCAB)).astype(np.uint8)
  rules = Decoding(Sampling(), LENGTH, tiny.PAD, ends)
  tokens = rng.integers(0, tiny.VOCAB, (6, 3, LENGTH)).astype(np.int32)
  lengths = rng.integers(0, LENGTH, (6, 3)).astype(np.int32)
  lengths[0] = 0, 1, LENGTH - 1
  job = _Job(None, None, None, None, None, rules, True)
  keys = jax.random.split(jax.random.key(0), lengths.shape)
  lanes = job.resume(keys, tokens, jnp.asarray(lengths))
  _, pending, known, states, done = lanes
  for i in np.ndindex(lengths.shape):
    state = 0
    for token in tokens[i][: lengths[i]]:
      state = int(ends[state, token])
    assert states[i] == state
    if lengths[i]:
      assert pending[i] == tokens[i][lengths[i] - 1]
  np.testing.assert_array_equal(known, lengths)
  assert not done.any() and len(np.unique(states)) > 2


def test_earlier_samples_of_another_shape_are_refused(params, waves):
  generate = make_refill(model(), Slots(2, 2, 3), **OPTIONS)
  short = jax.tree.map(lambda x: x[..., :-1] if x.ndim == 3 else x, waves)
  message = r"are \(4, 5, 12\), expected \(4, 5, 13\)"
  with pytest.raises(ValueError, match=message):
    generate(params, tiny.prompts(), jax.random.key(3), IDS, short)


@pytest.mark.parametrize("field", ["rows", "width", "segment"])
def test_sizes_below_one_are_refused(field):
  with pytest.raises(ValueError, match=f"{field} is 0.*at least 1"):
    Slots(**{"rows": 1, "width": 1, "segment": 1, field: 0})
