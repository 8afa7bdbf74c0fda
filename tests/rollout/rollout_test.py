"""Sampling and scoring agree: the loop's numbers against the training forward.

A random model with padded head columns, pictures of different sizes, several
in a row, and none.
"""

import jax
import numpy as np
import pytest
from scipy import special

from jaxvlm.models import qwen2_5_vl
from jaxvlm.rollout import make_generate, make_score, statistics
from jaxvlm.sampling import Samples, Sampling
from jaxvlm.typing import Batch
from tests import tiny

GROUP, LENGTH, TEMPERATURE = 3, 7, 0.8
IDS = np.array([4, 0, 7, 2], np.int32)
ROWS = [name for name in Samples._fields if name != "slot_steps"]


def model():
  return qwen2_5_vl.bind(tiny.CONFIG)


def generator(sampling, group=GROUP):
  return make_generate(
    model(),
    group=group,
    sampling=sampling,
    max_new_tokens=LENGTH,
    eos_ids=(tiny.EOS, 5, 17),
    pad_id=tiny.PAD,
    vocab_size=tiny.VOCAB,
  )


@pytest.fixture(scope="module")
def params():
  tree = tiny.params()
  # Were a padded column ever looked at, it would win every draw.
  head = tree["model"]["lm_head"]
  decoder = {**tree["model"], "lm_head": head.at[:, tiny.VOCAB :].set(100.0)}
  return {**tree, "model": decoder}


@pytest.fixture(scope="module")
def generate():
  return generator(Sampling(TEMPERATURE))


@pytest.fixture(scope="module")
def samples(generate, params):
  return generate(params, tiny.prompts(), jax.random.key(3), IDS)


@pytest.fixture(scope="module")
def batch(samples):
  return Batch(tiny.prompts(), samples.tokens, samples.mask)


@pytest.fixture(scope="module")
def scored(params, batch):
  score = make_score(
    model(),
    vocab_size=tiny.VOCAB,
    temperature=TEMPERATURE,
    teacher=model(),
  )
  return jax.device_get(score(params, batch, tiny.params(seed=1)))


def test_loop_and_training_forward_agree(samples, scored):
  assert samples.mask.sum() > 40 and not samples.mask.all()
  for name in ("logprobs", "entropies", "top1"):
    gap = np.abs(getattr(samples, name) - getattr(scored, name)).max()
    print(f"largest gap of {name}: {gap:.2e}")
    assert gap < 1e-4, name
  np.testing.assert_allclose(samples.sampling_logprobs, samples.logprobs)


def full_logits(params, batch):
  """Returns f64[N, G, T, vocab] from the forward's states."""
  hidden = np.asarray(jax.jit(model().forward)(params, batch), np.float64)
  head = np.asarray(params["model"]["lm_head"], np.float64)
  return (hidden @ head)[..., : tiny.VOCAB] / TEMPERATURE


def test_scores_equal_float64_over_the_cut_vocabulary(params, batch, scored):
  logp = special.log_softmax(full_logits(params, batch), -1)
  teach = special.log_softmax(full_logits(tiny.params(seed=1), batch), -1)
  mask = np.asarray(batch.mask)
  tokens = np.asarray(batch.tokens)[..., None]
  p = np.exp(logp)

  def at(x):
    return np.take_along_axis(x, tokens, -1)[..., 0]

  expected = {
    "logprobs": at(logp),
    "entropies": -(p * logp).sum(-1),
    "top1": p.max(-1),
    "teacher_logprobs": at(teach),
    "reverse_kl": (p * (logp - teach)).sum(-1),
    "forward_kl": (np.exp(teach) * (teach - logp)).sum(-1),
  }
  for name, value in expected.items():
    found = getattr(scored, name)
    np.testing.assert_allclose(found[mask], value[mask], atol=2e-5), name
    assert (found[~mask] == 0).all()


def test_padded_columns_are_never_drawn(samples):
  assert int(samples.tokens.max()) < tiny.VOCAB
  assert int(samples.tokens.min()) >= 0


def test_a_completion_depends_on_no_slot_to_the_bit(generate, params, samples):
  order = np.array([3, 0, 2, 1])
  front = tiny.prompts()
  moved = front._replace(
    **{
      name: getattr(front, name)[order]
      for name in front._fields
      if name != "positions"
    },
    positions=front.positions[:, order],
  )
  again = generate(params, moved, jax.random.key(3), IDS[order])
  for name in ROWS:
    a, b = getattr(samples, name), getattr(again, name)
    np.testing.assert_array_equal(a[order], b, err_msg=name)


def test_a_completion_depends_on_no_neighbor_to_the_bit(
  generate, params, samples
):
  front, other = tiny.prompts(), tiny.prompts(seed=5)
  mixed = front._replace(
    **{
      name: np.concatenate([getattr(front, name)[:1], getattr(other, name)[1:]])
      for name in front._fields
      if name != "positions"
    },
    positions=np.concatenate(
      [front.positions[:, :1], other.positions[:, 1:]], 1
    ),
  )
  again = generate(params, mixed, jax.random.key(3), IDS)
  for name in ROWS:
    a, b = getattr(samples, name), getattr(again, name)
    np.testing.assert_array_equal(a[0], b[0], err_msg=name)
  assert (samples.tokens[1:] != again.tokens[1:]).any()


def test_pictures_are_looked_at(generate, params, samples):
  front = tiny.prompts()
  blind = front._replace(patches=np.zeros_like(front.patches))
  again = generate(params, blind, jax.random.key(3), IDS)
  # Row 2 has no picture.
  np.testing.assert_array_equal(samples.logprobs[2], again.logprobs[2])
  for row in (0, 1, 3):
    assert (samples.entropies[row, :, 0] != again.entropies[row, :, 0]).all()


def test_all_samples_of_a_prompt_share_the_first_distribution(samples):
  for name in ("entropies", "top1"):
    first = np.asarray(getattr(samples, name))[:, :, 0]
    np.testing.assert_array_equal(first, np.repeat(first[:, :1], GROUP, 1))


@pytest.mark.parametrize("field", ["group", "max_new_tokens"])
def test_sizes_below_one_are_refused(field):
  sizes = {"group": 2, "max_new_tokens": 4, field: 0}
  with pytest.raises(ValueError, match=f"{field} .*0.*at least 1"):
    make_generate(
      model(),
      **sizes,
      sampling=Sampling(),
      eos_ids=(tiny.EOS,),
      pad_id=tiny.PAD,
      vocab_size=tiny.VOCAB,
    )


def test_statistics_refuse_a_cut_beyond_the_head(params, batch):
  with pytest.raises(ValueError, match="vocab_size is 65"):
    jax.eval_shape(
      lambda p: statistics(model(), p, batch, vocab_size=65), params
    )


def test_temperature_zero_takes_the_best_token_of_the_forward(params):
  greedy = generator(Sampling(0.0), group=1)
  samples = greedy(params, tiny.prompts(), jax.random.key(0), IDS)
  batch = Batch(tiny.prompts(), samples.tokens, samples.mask)
  logits = full_logits(params, batch) * TEMPERATURE
  mask = np.asarray(samples.mask)
  best = logits.argmax(-1)
  np.testing.assert_array_equal(np.asarray(samples.tokens)[mask], best[mask])
  logp = special.log_softmax(logits, -1).max(-1)
  np.testing.assert_allclose(
    np.asarray(samples.logprobs)[mask], logp[mask], atol=1e-4
  )


def test_a_teacher_is_given_whole_or_not_at_all(params, batch):
  score = make_score(model(), vocab_size=tiny.VOCAB)
  with pytest.raises(ValueError, match="teacher.*expected both or neither"):
    score(params, batch, params)


def test_nothing_is_compiled_when_prompts_pictures_and_lengths_vary(params):
  generate = generator(Sampling(TEMPERATURE))
  for seed, grids in enumerate(
    (
      tiny.GRIDS,
      tiny.GRIDS[::-1],
      ((), (), (), ((1, 2, 2),)),  # hardly a picture
      (((1, 6, 8),),) * 4,
    )
  ):
    front = tiny.prompts(seed=seed, grids=grids)
    generate(params, front, jax.random.key(seed), IDS + seed)
  assert generate._cache_size() == 1
