"""Pairs with the policy's own negatives: which is taken, what is logged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxvlm.data.negatives import Kind
from jaxvlm.data.rows import HostBatch, Row
from jaxvlm.sampling import Samples
from jaxvlm.sharding import ROWS, MeshConfig, make_mesh
from jaxvlm.tasks import Task
from jaxvlm.train import pairing
from jaxvlm.typing import Batch

WORDS = ["", "a", "dog", "cat", "runs", "."]


def decode(ids):
  return " ".join(WORDS[i] for i in ids if i)


def encode(text, length=4):
  ids = [WORDS.index(word) for word in text.split()]
  mask = np.arange(length) < len(ids)
  return np.array(ids + [0] * (length - len(ids))), mask


def arrays(texts):
  """Returns tokens and mask of N lists of texts."""
  both = [[encode(text) for text in row] for row in texts]
  return tuple(
    jnp.array([[one[part] for one in row] for row in both]) for part in (0, 1)
  )


def host(*rows):
  tokens, mask = arrays([row.responses for row in rows])
  return HostBatch(Batch((), tokens, mask), rows)


def samples(*texts):
  tokens, mask = arrays(texts)
  unused = dict.fromkeys(Samples._fields)
  return Samples(**{**unused, "tokens": tokens, "mask": mask})


def row(*responses, kinds=()):
  return Row("r", "q", "ref", responses=responses, kinds=kinds)


def texts_of(batch):
  return [
    [decode(t[m].tolist()) for t, m in zip(tokens, mask, strict=True)]
    for tokens, mask in zip(
      np.array(batch.tokens), np.array(batch.mask), strict=True
    )
  ]


def test_the_first_wrong_sample_is_taken_where_it_is_asked_for():
  given = host(
    row("a dog", "a cat", kinds=("", "object")),  # the second sample
    row("a dog", "a cat", kinds=("", "object")),  # not asked for
    row("a dog", "a cat", kinds=("", "object")),  # samples it alone
    row("a dog", "a cat"),  # samples nothing, of a file without kinds
  )
  drawn = samples(
    ["a dog .", "cat runs", "dog"], ["cat"] * 3, ["a dog"] * 3, [""] * 3
  )
  batch, logged = pairing.pair(
    given, drawn, np.array([True, False, True, True]), decode=decode
  )
  assert texts_of(batch) == [
    ["a dog", "cat runs"],
    ["a dog", "a cat"],
    ["a dog", "a cat"],
    ["a dog", "a cat"],
  ]
  assert logged == {
    "negatives/policy": 0.25,
    "negatives/object": 0.5,
    "negatives/file": 0.25,
    "negatives/none": 0.0,
    "negatives/only_chosen": pytest.approx(2 / 3),
  }


def test_without_any_negative_a_pair_does_not_count():
  given = host(row("a dog"), row("a cat"))
  drawn = samples(["a dog", "a dog"], ["a cat", "dog"])
  batch, logged = pairing.pair(given, drawn, np.ones(2, bool), decode=decode)
  assert texts_of(batch) == [["a dog", ""], ["a cat", "dog"]]
  assert np.array(batch.mask).any(-1).tolist() == [[True, False], [True, True]]
  assert logged["negatives/none"] == 0.5
  assert logged["negatives/only_chosen"] == 0.5


def test_a_task_keeps_right_answers_from_being_negatives():
  """ "a cat" is as right as "a dog": the reward decides, not the words."""

  def reward(responses, rows):
    return {"reward": [float("runs" not in text) for text in responses]}

  task = Task("t", lambda split: [], reward, ("reward",))
  given, drawn = host(row("a dog")), samples(["a cat", "dog runs"])
  asked = np.ones(1, bool)
  with_task, _ = pairing.pair(given, drawn, asked, decode=decode, task=task)
  without, _ = pairing.pair(given, drawn, asked, decode=decode)
  assert texts_of(with_task) == [["a dog", "dog runs"]]
  assert texts_of(without) == [["a dog", "a cat"]]


def test_rows_without_a_chosen_text_are_refused():
  none = HostBatch(
    Batch((), jnp.zeros((1, 0, 4), int), jnp.zeros((1, 0, 4), bool)), (row(),)
  )
  with pytest.raises(ValueError, match="expected the chosen one first"):
    pairing.pair(none, samples(["a"]), np.ones(1, bool), decode=decode)


def test_shares_of_stored_negatives():
  rows = [
    row("a", "b", kinds=("", "color")),
    row("a", "b", kinds=("", "color")),
    row("a", "b", kinds=("", "somebody's own")),
    row("a"),
  ]
  assert pairing.shares(rows) == {
    f"negatives/{Kind.COLOR}": 0.5,
    f"negatives/{Kind.FILE}": 0.25,
    "negatives/none": 0.25,
  }
  assert pairing.shares([row("a", "b"), row("a", "b")]) == {}


def test_a_mesh_changes_nothing():
  """All the devices that are there; one, unless the process has more."""
  mesh = make_mesh(MeshConfig())
  count = 4 * mesh.size
  rows = [row("a dog", "a cat", kinds=("", "object")) for _ in range(count)]
  drawn = samples(*[["a dog", "cat runs" if i % 3 else "a dog"]
                    for i in range(count)])  # fmt: skip
  given, asked = host(*rows), np.arange(count) % 2 == 0
  plain, told = pairing.pair(given, drawn, asked, decode=decode)
  spread = jax.device_put(
    (given.batch.tokens, given.batch.mask, drawn.tokens, drawn.mask),
    NamedSharding(mesh, PartitionSpec(ROWS)),
  )
  there = given._replace(batch=Batch((), *spread[:2]))
  placed = drawn._replace(tokens=spread[2], mask=spread[3])
  batch, logged = pairing.pair(there, placed, asked, decode=decode, mesh=mesh)
  assert texts_of(batch) == texts_of(plain)
  assert logged == told
