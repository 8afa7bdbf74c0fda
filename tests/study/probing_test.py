"""The probe set: what a policy says wrong, random tokens, what is refused."""

import types

import numpy as np
import pytest

from jaxvlm.data.rows import Bucket, Row
from jaxvlm.diagnostics import probes
from jaxvlm.study import probing
from jaxvlm.study.probing import ProbeConfig
from jaxvlm.tasks import Task, one_by_one
from jaxvlm.typing import Batch

N, G, T = 3, 2, 4
# Token 7 ends an answer; words are numbers.
CHAT = types.SimpleNamespace(
  decode=lambda ids: " ".join(str(i) for i in ids if i != 7),
  tokenizer=types.SimpleNamespace(all_special_ids=[7, 8]),
  vocab_size=9,
  pad_id=8,
)
TASK = Task(
  "toy",
  lambda split: (),
  one_by_one(lambda text, right: dict.fromkeys(("reward", "exact"),
                                               float(text == right))),
  ("exact",),
)  # fmt: skip
ROWS = [Row(str(i), "?", "1 2") for i in range(N)]


def test_the_first_wrong_completion_is_taken_and_right_ones_never():
  tokens = np.array(
    [
      [[1, 2, 7, 8], [3, 7, 8, 8]],
      [[4, 7, 8, 8], [5, 7, 8, 8]],
      [[1, 2, 7, 8], [1, 2, 7, 8]],
    ]
  )
  mask = tokens != 8
  own, kept = probing.wrong_ones(tokens, mask, ROWS, CHAT, TASK)
  assert own[0].tolist() == [3, 7, 8, 8]
  assert own[1].tolist() == [4, 7, 8, 8]
  assert kept.sum(1).tolist() == [2, 2, 0]


def test_random_tokens_are_ordinary_and_as_many_as_the_chosen_answer():
  mask = np.arange(T) < np.array([4, 2, 1])[:, None]
  texts = np.broadcast_to(mask[:, None], (N, 6, T))
  batch = Batch(None, np.ones((N, 6, T), np.int32), texts)
  own = np.full((N, T), 3, np.int32), mask
  encoder = types.SimpleNamespace(chat=CHAT)
  found = probing.complete(batch, own, encoder, seed=0)
  assert found.tokens.shape == (N, len(probes.CLASSES), T)
  drawn = found.tokens[:, -1]
  assert np.isin(drawn[mask], range(7)).all()
  assert (drawn[~mask] == CHAT.pad_id).all()
  np.testing.assert_array_equal(found.mask[:, -1], mask)
  np.testing.assert_array_equal(found.tokens[:, -2], own[0])
  without = probing.complete(batch, None, encoder, seed=0)
  np.testing.assert_array_equal(without.tokens[:, -1], drawn)
  assert without.tokens.shape[1] == len(probes.TEXTS) + 1


@pytest.mark.parametrize(
  ("config", "message"),
  [
    (ProbeConfig(problems=4), "probes.problems is 4, expected at least 8"),
    (ProbeConfig(every=-1), "probes.every is -1"),
    (ProbeConfig(most_drift=-1.0), "probes.most_drift is -1.0"),
  ],
)
def test_what_says_too_little_is_refused(config, message):
  with pytest.raises(ValueError, match=message):
    probing.check(config, 8)
  probing.check(ProbeConfig(problems=4, every=0), 8)


def test_limits_are_off_unless_they_are_asked_for():
  seen = {"probe/total_variation/chosen": 0.9, "probe/shift/chosen": -50.0}
  assert not ProbeConfig().limits.broken(seen)
  assert ProbeConfig(most_drift=0.5).limits.broken(seen)
  assert ProbeConfig(most_lost=9.0).limits.broken(seen)


def test_a_problem_that_does_not_fit_is_named():
  chat = types.SimpleNamespace(
    layout=None, prompt=lambda *of: [1] * 9, completion=lambda text: [1]
  )
  encoder = types.SimpleNamespace(
    chat=chat, grids=lambda row: [], buckets=(Bucket(8, 0),), max_new_tokens=4
  )
  with pytest.raises(ValueError, match="row '0' of the probe set: the prompt"):
    probing.written(ROWS, encoder)
