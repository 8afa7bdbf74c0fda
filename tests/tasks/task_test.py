"""Tasks: what a reward may return, and references of any shape."""

import json
import math
import types

import numpy as np
import pytest

from jaxvlm.data.rows import Row
from jaxvlm.rewards import geometry3k_reward
from jaxvlm.tasks import Task, check_readable, geometry3k, one_by_one, score
from jaxvlm.tasks import world as worlds
from tests.tasks.captions import CAPTIONS, ROWS

ROW = Row("row 1", "?", "47")


def task(reward, metrics=("accuracy",), **more):
  return Task("mine", lambda split: [ROW], reward, metrics, **more)


def always(value):
  """Returns a task whose reward returns `value`."""
  return task(lambda responses, rows: value)


@pytest.mark.parametrize(
  "shipped", [worlds.task(), geometry3k.task("/nowhere")], ids=lambda t: t.name
)
def test_a_shipped_task_scores_as_the_published_reward(shipped):
  texts = ["<think>a</think>\\boxed{47}", "\\boxed{47}", "47"]
  found = score(shipped, texts, [ROW] * 3)
  expected = [geometry3k_reward(text, "47") for text in texts]
  for name, part in (
    ("reward", "overall"), ("accuracy", "accuracy"), ("format", "format")
  ):  # fmt: skip
    values = np.float32([one[part] for one in expected])
    np.testing.assert_array_equal(found[name], values)
    assert found[name].dtype == np.float32
  assert set(shipped.metrics) < set(found) and shipped.pictures
  assert [shipped.answer(text) for text in texts] == ["47", "47", ""]


def test_the_worlds_splits_are_endless_and_lazy():
  rows = worlds.task().rows("validation")
  assert len(rows) > 10**9 and rows[7].id == "validation/7"
  first = rows[:3]
  assert len(first) == 3 and "count=3" in first.identity
  assert [r.id for r in rows[2:6:3]] == ["validation/2", "validation/5"]
  with pytest.raises(ValueError, match="'test' of the world.*validation_ood"):
    worlds.task().rows("test")


@pytest.mark.parametrize("one", [1, True, np.float32(1), np.array(1)])
def test_every_kind_of_number_is_one(one):
  found = score(always({"reward": [one], "accuracy": (one,)}), ["a"], [ROW])
  assert {name: values.tolist() for name, values in found.items()} == {
    "reward": [1.0],
    "accuracy": [1.0],
  }


@pytest.mark.parametrize(
  "value, message",
  [
    (0.5, r"returned a float, expected a mapping .*reward, accuracy\) to 1"),
    (None, "returned a NoneType, expected a mapping"),
    ([1.0], "returned a list, expected a mapping"),
    ({}, "returned no score, without reward, accuracy"),
    ({"reward": [1.0]}, "returned reward, without accuracy"),
    (
      {"reward": [1.0], "accuracy": [1.0], "mean": [1.0]},
      "score named mean, expected another name: reward/mean",
    ),
    ({"reward": 1.0, "accuracy": [1]}, "reward is 1.0, expected a sequence"),
    ({"reward": [1, 1], "accuracy": [1]}, "reward has 2 numbers, expected 1"),
    (
      {"reward": [math.nan], "accuracy": [0]},
      "reward of row 'row 1' is nan, expected a finite number",
    ),
    ({"reward": [1], "accuracy": [math.inf]}, "accuracy of row .* is inf"),
    ({"reward": [1], "accuracy": ["1.0"]}, "accuracy of row .* is '1.0'"),
    ({"reward": [[1]], "accuracy": [1]}, r"reward of row .* is \[1\]"),
    ({"reward": [1], "accuracy": [1], "more": [None]}, "more .* is None"),
  ],
)
def test_anything_else_is_named(value, message):
  with pytest.raises(ValueError, match=f"the reward of task 'mine'.*{message}"):
    score(always(value), ["text"], [ROW])


def test_scores_that_differ_between_rows_are_named():
  def grade(response, reference):
    return {"reward": 1.0} if reference == "47" else {"overall": 1.0}

  rows = [ROW, Row("row 2", "?", "48")]
  with pytest.raises(ValueError, match="row 'row 2' are overall, expected rew"):
    score(task(one_by_one(grade), ("reward",)), ["a", "b"], rows)


@pytest.mark.parametrize("metrics", [(), "accuracy"])
def test_a_task_without_metrics_is_refused(metrics):
  with pytest.raises(ValueError, match="task 'mine': metrics are .*expected"):
    task(None, metrics)


def test_pictures_are_not_for_a_model_that_reads_text():
  reads_text = types.SimpleNamespace(layout=None)
  sees = types.SimpleNamespace(layout=object())
  check_readable(worlds.task(), sees)
  check_readable(CAPTIONS, reads_text)
  with pytest.raises(ValueError, match="task 'world' has pictures, and .*text"):
    check_readable(worlds.task(), reads_text)


def test_a_reward_pools_its_batch_and_reads_references_of_any_shape():
  assert all(len(row.reference) == 5 for row in ROWS)
  texts = ["a dog runs", "a red bus", "nothing"]
  found = score(CAPTIONS, texts, ROWS)
  # By hand: words that a reference has, each counted by log(3 / rows with it).
  rare, common = math.log(3 / 1), math.log(3 / 3)
  expected = [common + rare + rare, common + rare + rare, 0.0]
  np.testing.assert_allclose(found["overlap"], expected, rtol=1e-6)
  np.testing.assert_array_equal(found["length"], [3, 3, 1])
  # Alone, a row's words are in every row of its batch: the batch is pooled.
  alone = score(CAPTIONS, texts[:1], ROWS[:1])
  np.testing.assert_array_equal(alone["overlap"], [0.0])


def test_a_reference_that_is_no_text_comes_with_one():
  with pytest.raises(ValueError, match="row 'a': reference is a tuple.*_text"):
    Row("a", "?", ("one", "two"))
  row = Row("a", "?", ("one", "two"), reference_text='["one", "two"]')
  assert row.reference == ("one", "two")
  assert json.loads(row.reference_text) == list(row.reference)
  assert Row("a", "?", "47").reference_text == "47"
