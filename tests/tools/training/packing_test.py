"""Packing: every row once, none longer than a stream, the same loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import models
from jaxvlm.data import chat as chats
from jaxvlm.data import rows as rows_lib
from jaxvlm.data.completions import Packed
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Encoder, Row
from jaxvlm.data.turns import Turn
from jaxvlm.models import decoder
from jaxvlm.tools.training import buckets, packing
from jaxvlm.tools.training.buckets import Need
from jaxvlm.train import objectives
from jaxvlm.train.objectives import Counts
from jaxvlm.typing import Batch
from tests import tiny


def row(number, **more):
  said = {"responses": (f"r{number}",), **more}
  return Row(f"{number}", f"q{number}", "-", **said)


def members(streams):
  """Returns the questions of each stream."""
  for one in streams.rows:
    (packed,) = one.responses
    yield [one.question, *(guest.question for guest in packed.guests)]


@pytest.mark.parametrize("seed", range(5))
def test_every_row_once_and_no_stream_too_long(seed):
  rng = np.random.default_rng(seed)
  rows = [row(i) for i in range(60)]
  needs = [
    Need(int(prompt), 0, (int(reply),))
    for prompt, reply in rng.integers(1, 40, (60, 2))
  ]
  streams = packing.pack(rows, needs, 100)
  sizes = dict(zip((r.question for r in rows), needs, strict=True))
  found = list(members(streams))
  assert sorted(q for stream in found for q in stream) == sorted(sizes)
  for (first, *others), need in zip(found, streams.needs, strict=True):
    taken = sizes[first].replies[0]
    taken += sum(sizes[q].prompt + sizes[q].replies[0] for q in others)
    assert need == Need(sizes[first].prompt, 0, (taken,)) and taken <= 100
  # A row begins a stream only where no stream begun before has room for it.
  begun = [
    (sizes[first].prompt + sizes[first].replies[0], need.replies[0])
    for (first, *_), need in zip(found, streams.needs, strict=True)
  ]
  for size, taken in begun:
    assert all(taken + other > 100 for other, _ in begun if other < size)
  assert streams == packing.pack(rows, needs, 100)


def test_pictures_and_what_cannot_be_used_are_alone():
  rows = [row(i) for i in range(6)]
  rows[1] = row(1, images=("a.png",))
  small = Need(2, 0, (2,))
  needs = [small, Need(9, 4, (2,)), None, Need(2, 0, (99,)), small, small]
  needs[5] = Need(50, 0, (2,))
  streams = packing.pack(rows, needs, 20, longest_prompt=10)
  assert list(members(streams)) == [
    ["q0", "q4"],
    ["q1"],
    ["q2"],
    ["q3"],
    ["q5"],
  ]
  assert streams.needs == (Need(2, 0, (6,)), *needs[1:4], needs[5])
  assert [r.id for r in streams.rows][:2] == ["0 and 1 more", "1"]
  assert all(isinstance(r.responses[0], Packed) for r in streams.rows)


LENGTH, PROMPTS = 96, 4


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
  """Rows of text, some with turns before, one with a picture; an encoder."""
  folder = tmp_path_factory.mktemp("model")
  config = tiny.write_folder(folder, tiny.corpus())
  chat = chats.load(folder, config.layout)
  rows = [row(i, before=(Turn("system", "s"),) * (i % 2)) for i in range(7)]
  gray = np.full((56, 56, 3), 90, np.uint8)
  rows[3] = row(3, images=(gray,))
  encoder = Encoder(
    chat, PixelBudget(56 * 56, 56 * 56), (Bucket(64, 16),), LENGTH
  )
  return folder, rows, encoder


def batch_of(rows, encoder):
  """Returns `PROMPTS` rows as one batch; what is repeated counts nothing."""
  filled = [rows[i % len(rows)] for i in range(PROMPTS)]
  host = rows_lib.make_batch(filled, None, encoder.buckets[0], encoder)
  counts = np.arange(PROMPTS) < len(rows)
  return host.batch._replace(mask=host.batch.mask & counts[:, None, None])


def test_loss_and_gradients_are_those_of_rows_apart(setting):
  """One program: a stream without guests is a row apart."""
  folder, rows, encoder = setting
  needs = buckets.measure(rows, encoder.chat, encoder.budget)
  streams = packing.pack(rows, needs, LENGTH)
  assert len(streams.rows) <= PROMPTS < len(rows)
  alone = packing.pack(rows, needs, 0).rows
  assert len(alone) == len(rows)

  config, params = models.load_pretrained(folder)
  sft = objectives.sft(models.bind(config), vocab_size=encoder.chat.vocab_size)
  one = Counts(*jnp.ones(3))  # sums, not means: they add up

  @jax.jit
  def evaluate(params, batch):
    return jax.value_and_grad(lambda p: sft(p, {}, batch, one)[0])(params)

  packed = batch_of(streams.rows, encoder)
  loss, gradient = evaluate(params, packed)
  parts = [
    evaluate(params, batch_of(alone[start : start + PROMPTS], encoder))
    for start in range(0, len(alone), PROMPTS)
  ]
  total = jax.tree.map(lambda *each: sum(each), *parts)
  np.testing.assert_allclose(loss, total[0], rtol=2e-6)
  top = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(total[1]))
  for found, wanted in zip(*map(jax.tree.leaves, (gradient, total[1])),
                           strict=True):  # fmt: skip
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6 * top)
  # Without segments a row would read those before it.
  blurred = packed._replace(segments=np.zeros_like(packed.segments))
  apart = abs(float(evaluate(params, blurred)[0] - loss))
  assert apart > 1e-4 * float(loss)


def test_streams_without_segments_stand_where_they_always_did():
  plain = tiny.batch(group=1)
  zeros = np.zeros_like(plain.tokens[:, 0])
  for found, wanted in zip(
    decoder._places(plain._replace(segments=zeros)),
    decoder._places(plain),
    strict=True,
  ):
    np.testing.assert_array_equal(found, wanted)
  segments = np.array([[0, 0, 1, 1, 1, 2, 2, 2]])
  short = Batch(
    plain.prompts._replace(next_position=np.array([7])),
    segments[:, None],
    segments[:, None] > 0,
    segments,
  )
  ids, positions = decoder._places(short)
  assert ids.tolist() == [[0, 0, 1, 1, 1, 2, 2]]
  assert positions.tolist() == [[[7, 8, 0, 1, 2, 0, 1]]]
