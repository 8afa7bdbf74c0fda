"""From samples to experience: text, rewards, advantages, logged means."""

import jax
import numpy as np
import pytest

from jaxvlm.data.rows import HostBatch, Row
from jaxvlm.sampling import Samples
from jaxvlm.train import experience
from tests import tiny

N, G, T = 4, 2, 5
BATCH = tiny.batch(group=G, length=T)


def samples():
  rng = np.random.default_rng(0)
  numbers = [
    np.where(BATCH.mask, rng.random(BATCH.mask.shape), 0).astype(np.float32)
    for _ in range(4)
  ]
  finished = rng.random((N, G)) < 0.5
  return Samples(BATCH.tokens, BATCH.mask, finished, -numbers[0], *numbers[1:])


def host():
  rows = tuple(Row(f"row {i}", "?", answer=str(i)) for i in range(N))
  return HostBatch(BATCH, rows)


def test_sample_asks_for_unique_ids_and_keeps_the_prompts():
  asked = {}

  def generate(params, prompts, key, ids):
    asked.update(params=params, prompts=prompts, key=key, ids=ids)
    return samples()

  key = jax.random.key(5)
  batch, found = experience.sample(generate, "params", host(), key)
  assert asked["params"] == "params" and asked["key"] is key
  assert asked["prompts"] is BATCH.prompts and batch.prompts is BATCH.prompts
  assert len(set(asked["ids"].tolist())) == N
  assert batch.tokens is found.tokens and batch.mask is found.mask


def test_grade_reads_what_the_mask_keeps_against_the_rows_own_answer():
  seen = []

  def reward(text, answer):
    seen.append((text, answer))
    return {"overall": len(text.split()) + 10 * int(answer), "format": True}

  graded = experience.grade(
    samples(), host(), decode=lambda ids: " ".join(map(str, ids)), reward=reward
  )
  lengths = BATCH.mask.sum(-1)
  expected = lengths + 10 * np.arange(N)[:, None]
  np.testing.assert_array_equal(graded["overall"], expected)
  assert graded["overall"].dtype == graded["format"].dtype == np.float32
  np.testing.assert_array_equal(graded["format"], np.ones((N, G)))
  text = " ".join(map(str, BATCH.tokens[2, 1][BATCH.mask[2, 1]]))
  assert (text, "2") in seen


def test_group_experience():
  rewards = np.float32([[0, 1], [1, 1], [0, 0], [0.1, 0.6]])
  drawn = samples()
  inputs, metrics = experience.group_experience(BATCH, drawn, rewards)
  half = np.sqrt(0.5)
  expected = [[-half, half], [0, 0], [0, 0], [-half, half]]
  np.testing.assert_allclose(inputs.advantages, expected, atol=1e-5)
  assert (np.asarray(inputs.advantages)[1:3] == 0).all()
  assert inputs.old_logprobs is drawn.logprobs
  assert metrics["reward/mean"] == pytest.approx(3.7 / 8)
  assert metrics["reward/degenerate_groups"] == 0.5
  plain, _ = experience.group_experience(
    BATCH, drawn, rewards, normalize_std=False
  )
  np.testing.assert_allclose(plain.advantages[3], [-0.25, 0.25], atol=1e-6)


def test_a_group_of_one_is_refused_with_the_flag():
  with pytest.raises(ValueError, match=r"group size is 1.*--grpo\.group"):
    experience.group_experience(BATCH, samples(), np.ones((N, 1), np.float32))


def test_rollout_metrics_are_means_over_tokens():
  mask = BATCH.mask
  drawn = samples()._replace(slot_steps=2 * mask.sum())
  found = experience.rollout_metrics(drawn)
  assert found == pytest.approx(
    {
      "batch/tokens": mask.sum(),
      "rollout/entropy": drawn.entropies[mask].mean(),
      "rollout/neg_logprob": -drawn.logprobs[mask].mean(),
      "rollout/top1": drawn.top1[mask].mean(),
      "rollout/length": mask.sum(-1).mean(),
      "rollout/finished": drawn.finished.mean(),
      "rollout/useful": 0.5,
    }
  )
  # Of completions that go on, only what is new came of these slot-steps.
  some = experience.rollout_metrics(drawn, mask.sum() // 2)
  assert some["rollout/useful"] == pytest.approx(0.25, abs=0.02)
  assert some["batch/tokens"] == mask.sum()


def test_a_reward_that_is_none_is_named_and_parts_are_those_of_the_first():
  def graded(reward):
    return experience.grade(samples(), host(), decode=str, reward=reward)

  with pytest.raises(ValueError, match="a float; expected a map"):
    graded(lambda text, answer: 0.5)
  with pytest.raises(ValueError, match="overall is nan"):
    graded(lambda text, answer: {"overall": float("nan")})
  with pytest.raises(ValueError, match="without overall"):
    graded(lambda text, answer: {"accuracy": 1.0})
  with pytest.raises(ValueError, match="for the answer '2', without format"):
    graded(
      lambda text, answer: (
        {"overall": 1.0} | ({} if answer == "2" else {"format": 1.0})
      )
    )
