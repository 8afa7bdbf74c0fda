"""From samples to experience: text, rewards, advantages, logged means."""

import jax
import numpy as np
import pytest

from jaxvlm.data.rows import HostBatch, Row
from jaxvlm.sampling import Samples
from jaxvlm.tasks import Task
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
  rows = tuple(Row(f"row {i}", "?", str(i)) for i in range(N))
  return HostBatch(BATCH, rows)


def task(reward):
  return Task("mine", lambda split: (), reward, ("reward",))


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

  def reward(texts, rows):
    answers = [row.reference for row in rows]
    seen.append(list(zip(texts, answers, strict=True)))
    totals = [len(t.split()) + 10 * int(a) for t, a in seen[0]]
    return {"reward": totals, "format": [True] * len(texts)}

  graded = experience.grade(
    samples(),
    host(),
    decode=lambda ids: " ".join(map(str, ids)),
    task=task(reward),
  )
  lengths = BATCH.mask.sum(-1)
  expected = lengths + 10 * np.arange(N)[:, None]
  np.testing.assert_array_equal(graded["reward"], expected)
  assert graded["reward"].dtype == graded["format"].dtype == np.float32
  np.testing.assert_array_equal(graded["format"], np.ones((N, G)))
  text = " ".join(map(str, BATCH.tokens[2, 1][BATCH.mask[2, 1]]))
  (batch,) = seen  # all at once
  assert len(batch) == N * G and batch[2 * G + 1] == (text, "2")


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


def test_what_dapo_leaves_out_counts_in_no_mean():
  rewards = np.float32([[0, 1], [1, 1], [0, 0], [0.1, 0.6]])
  drawn = samples()
  told = np.array([True, False, False, True])  # whose group tells anything
  for degenerate, overlong in ((True, False), (False, True), (True, True)):
    inputs, metrics = experience.group_experience(
      BATCH, drawn, rewards, drop_degenerate=degenerate, mask_overlong=overlong
    )
    expected = BATCH.mask.copy()
    if degenerate:
      expected[~told] = False
    if overlong:
      expected[~drawn.finished] = False
    np.testing.assert_array_equal(inputs.batch.mask, expected)
    assert 0 < expected.sum() < BATCH.mask.sum()
    # What was drawn is logged as it was.
    assert metrics["reward/degenerate_groups"] == 0.5


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


def test_a_reward_that_says_too_little_is_named():
  for value, message in (
    (0.5, "task 'mine' returned a float, expected a map"),
    ({"reward": [float("nan")] * N * G}, "reward of row 'row 0' is nan"),
    ({"accuracy": [1.0] * N * G}, "without reward"),
  ):
    with pytest.raises(ValueError, match=message):
      experience.grade(
        samples(), host(), decode=str, task=task(lambda *_, v=value: v)
      )
