"""Scores of given completions: definitions in float64, and what they share."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxvlm.models import qwen2_5_vl
from jaxvlm.rollout import make_score
from jaxvlm.typing import Batch
from tests import tiny
from tests.reference import tokenstats as reference

GROUP, TEMPERATURE = 3, 0.7
MODEL, PARAMS = tiny.bag()
TEACHER, TEACHER_PARAMS = tiny.bag(width=6)  # another architecture
BATCH = tiny.batch(group=GROUP)
NAMES = ("logprobs", "entropies", "top1", "reverse_kl", "forward_kl")


@pytest.fixture(scope="module")
def score():
  return make_score(
    MODEL, vocab_size=tiny.VOCAB, temperature=TEMPERATURE, teacher=TEACHER
  )


@pytest.fixture(scope="module")
def scored(score):
  return jax.device_get(score(PARAMS, BATCH, TEACHER_PARAMS))


def test_scores_are_what_the_definitions_say(scored):
  expected = reference.token_stats(
    np.asarray(MODEL.forward(PARAMS, BATCH)),
    np.asarray(MODEL.head(PARAMS)),
    BATCH.tokens,
    BATCH.mask,
    temperature=TEMPERATURE,
    vocab_size=tiny.VOCAB,
    teacher_hidden=np.asarray(TEACHER.forward(TEACHER_PARAMS, BATCH)),
    teacher_head=np.asarray(TEACHER.head(TEACHER_PARAMS)),
  )
  for name in (*NAMES, "teacher_logprobs", "teacher_entropies"):
    np.testing.assert_allclose(
      getattr(scored, name), expected[name], atol=1e-4, err_msg=name
    )
  assert (scored.reverse_kl[BATCH.mask] > 1e-3).all()
  assert scored.logprobs.shape == BATCH.mask.shape


def test_one_program_scores_under_any_parameters(score):
  trees = [jax.tree.map(lambda x, by=by: x * by, PARAMS) for by in (1, 0.9, 2)]
  found = [score(tree, BATCH, TEACHER_PARAMS).logprobs for tree in trees]
  assert score._cache_size() == 1
  assert not np.allclose(found[0], found[1])
  assert not np.allclose(found[0], found[2])


def test_there_is_no_divergence_from_oneself():
  score = make_score(
    MODEL, vocab_size=tiny.VOCAB, temperature=TEMPERATURE, teacher=MODEL
  )
  same = score(PARAMS, BATCH, PARAMS)
  for name in ("reverse_kl", "forward_kl"):
    assert np.abs(getattr(same, name)).max() < 1e-6, name
  np.testing.assert_array_equal(same.logprobs, same.teacher_logprobs)


def test_what_stands_behind_the_mask_changes_nothing(score, scored):
  other = BATCH._replace(tokens=np.where(BATCH.mask, BATCH.tokens, 33))
  again = score(PARAMS, other, TEACHER_PARAMS)
  for name in NAMES:
    a, b = getattr(scored, name), getattr(again, name)
    np.testing.assert_array_equal(a, b, err_msg=name)
    assert (np.asarray(b)[~BATCH.mask] == 0).all()


def test_a_completion_is_scored_alike_beside_any_other(score, scored):
  order = [2, 0, 1]
  moved = BATCH._replace(
    tokens=BATCH.tokens[:, order], mask=BATCH.mask[:, order]
  )
  again = score(PARAMS, moved, TEACHER_PARAMS)
  for name in NAMES:
    np.testing.assert_allclose(
      getattr(again, name), getattr(scored, name)[:, order], atol=1e-5
    )


def test_a_shared_prompt_scores_as_copied_ones():
  """One layer of each kind, pictures of different sizes, and none."""
  config = dataclasses.replace(
    tiny.CONFIG,
    num_hidden_layers=1,
    vision=dataclasses.replace(
      tiny.CONFIG.vision, depth=1, fullatt_block_indexes=(0,)
    ),
  )
  model, params = qwen2_5_vl.bind(config), tiny.params(config)
  score = make_score(model, vocab_size=tiny.VOCAB, temperature=TEMPERATURE)
  shared = score(params, BATCH)
  front = BATCH.prompts
  copied = front._replace(
    **{
      name: np.repeat(value, GROUP, axis=1 if name == "positions" else 0)
      for name, value in front._asdict().items()
    }
  )
  alone = Batch(
    copied,
    BATCH.tokens.reshape(-1, 1, BATCH.tokens.shape[-1]),
    BATCH.mask.reshape(-1, 1, BATCH.mask.shape[-1]),
  )
  separate = score(params, alone)
  for name in ("logprobs", "entropies", "top1"):
    np.testing.assert_allclose(
      getattr(shared, name),
      np.reshape(getattr(separate, name), BATCH.mask.shape),
      atol=1e-5,
      err_msg=name,
    )
  assert np.ptp(np.asarray(shared.logprobs)[BATCH.mask]) > 0.1
