"""What a reward may return: anything else is named with its reward."""

import math

import numpy as np
import pytest

from jaxvlm.rewards import geometry3k_reward
from jaxvlm.rewards.graded import grade

PARTS = ("overall", "accuracy", "format")


def test_the_shipped_reward_passes():
  found = grade(geometry3k_reward, "\\boxed{7}", "7", parts=PARTS)
  assert found == geometry3k_reward("\\boxed{7}", "7")
  assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize("one", [1, True, np.float32(1), np.array(1)])
def test_every_kind_of_number_is_one(one):
  assert grade(lambda *_: {"overall": one}, "", "", parts=()) == {"overall": 1}


@pytest.mark.parametrize(
  "value,message",
  [
    (0.5, "returned 0.5 for the answer '47', a float; expected a mapping"),
    (None, "returned None .* a NoneType; expected a mapping"),
    ((1.0, 0.0), "a tuple; expected a mapping"),
    ({}, "without accuracy, format, overall"),
    ({"overall": 1.0}, "without accuracy, format; expected accuracy, format"),
    (
      {"overall": math.nan, "accuracy": 0, "format": 0},
      "overall is nan, expected a finite number",
    ),
    ({"overall": 1, "accuracy": math.inf, "format": 0}, "accuracy is inf"),
    ({"overall": 1, "accuracy": 1, "format": "1.0"}, "format is '1.0'"),
    ({"overall": [1], "accuracy": 1, "format": 1}, r"overall is \[1\]"),
    (
      {"overall": 1, "accuracy": 1, "format": 1, "extra": None},
      "extra is None",
    ),
  ],
)
def test_anything_else_is_named(value, message):
  def mine(response, answer):
    return value

  with pytest.raises(ValueError, match=f"the reward 'mine' .*{message}"):
    grade(mine, "text", "47", parts=PARTS)


def test_a_reward_that_is_an_object_is_named_by_its_class():
  class Mine:
    def __call__(self, response, answer):
      return 1.0

  with pytest.raises(ValueError, match="the reward 'Mine'"):
    grade(Mine(), "", "", parts=())
