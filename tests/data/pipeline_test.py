"""The stream of batches: a function of the step, whoever computes it."""

import dataclasses

import numpy as np
import pytest
from absl import flags
from PIL import Image

from jaxvlm.data import chat, layout, pipeline, rows, tokenizer
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.order import Plan
from jaxvlm.data.pipeline import BatchSource
from jaxvlm.data.rows import Bucket, Encoder, HostBatch, Row

VISION = layout.VisionLayout(window=56)
BUCKETS = (Bucket(80, 32), Bucket(120, 64))
STEPS = 9


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> BatchSource:
  """13 rows of two picture sizes, one of which breaks after the survey."""
  folder = tmp_path_factory.mktemp("rows")
  corpus = ["Find the angle x.", "180 - 110 = 70"] * 4
  tokenizer.build(corpus, folder, vocab_size=300)
  encoder = Encoder(
    chat.load(folder, VISION), PixelBudget(), BUCKETS, max_new_tokens=12
  )
  rng = np.random.default_rng(0)
  late = folder / "late.png"
  pictures = [late] + [
    rng.integers(0, 256, ((56, 112)[i % 2], 84, 3), dtype=np.uint8)
    for i in range(12)
  ]
  Image.fromarray(pictures[1]).save(late)
  data = [
    Row(str(i), f"Find x{i}.", str(i), (picture,), responses=(f"{i}",))
    for i, picture in enumerate(pictures)
  ]
  found = rows.survey(data, encoder)
  assert set(found.buckets) == {0, 1}
  late.write_bytes(late.read_bytes()[:80])
  plan = Plan(tuple(found.buckets.tolist()), 4, seed=2)
  return BatchSource(found, plan, encoder, STEPS)


def assert_equal(a: HostBatch, b: HostBatch):
  assert isinstance(a, HostBatch) and isinstance(b, HostBatch)
  leaves = zip(
    (*a.batch.prompts, a.batch.tokens, a.batch.mask),
    (*b.batch.prompts, b.batch.tokens, b.batch.mask),
    strict=True,
  )
  for x, y in leaves:
    assert isinstance(x, np.ndarray) and x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)
  assert len(a.rows) == len(b.rows)
  for x, y in zip(a.rows, b.rows, strict=True):
    assert isinstance(x, Row)
    for field in dataclasses.fields(Row):
      if field.name != "images":
        assert getattr(x, field.name) == getattr(y, field.name)
    for p, q in zip(x.images, y.images, strict=True):
      np.testing.assert_array_equal(p, q)
  assert a.replaced == b.replaced


@pytest.fixture(scope="module")
def expected(source) -> list[HostBatch]:
  return [source[step] for step in range(STEPS)]


def test_steps_cover_two_epochs_of_both_shapes(source, expected):
  assert len(source) == STEPS
  shapes = {made.batch.prompts.patches.shape[:2] for made in expected}
  assert shapes == {(4, 32), (4, 64)}
  used = [row.id for made in expected[:4] for row in made.rows]
  # The broken row appears in no batch, and is named where it was replaced.
  replaced = [name for made in expected for name, _ in made.replaced]
  assert "0" not in used and set(replaced) == {"0"} and len(replaced) >= 2
  assert set(used) == {str(i) for i in range(1, 13)}
  for made in expected:
    for i, row in enumerate(made.rows):
      assert made.batch.mask[i].sum() > 1 and row.responses == (row.reference,)


def test_no_workers_give_the_plans_stream(source, expected):
  made = list(pipeline.batches(source))
  assert len(made) == STEPS
  for a, b in zip(made, expected, strict=True):
    assert_equal(a, b)


@pytest.mark.parametrize("start", [1, 4, STEPS - 1, STEPS])
def test_a_resumed_stream_continues(source, expected, start):
  made = list(pipeline.batches(source, start=start))
  for a, b in zip(made, expected[start:], strict=True):
    assert_equal(a, b)


@pytest.fixture
def parsed_flags():
  """Does for a test what absl.app.run does for a program."""
  was_parsed = flags.FLAGS.is_parsed()
  flags.FLAGS.mark_as_parsed()
  yield
  if not was_parsed:
    flags.FLAGS.unparse_flags()


@pytest.mark.usefixtures("parsed_flags")
@pytest.mark.parametrize(
  "workers", [pytest.param(1, marks=pytest.mark.slow), 2]
)
def test_workers_give_the_same_stream(source, expected, workers):
  # Resumed in the middle, so that workers start at an odd place.
  made = list(pipeline.batches(source, start=3, workers=workers))
  for a, b in zip(made, expected[3:], strict=True):
    assert_equal(a, b)


def test_processes_together_hold_the_batch_of_one(source, expected):
  parts = [
    BatchSource(
      source._survey, source._plan, source._encoder, STEPS, places=places
    )
    for places in ((0, 1), (2,), (3,))
  ]
  for step, whole in enumerate(expected):
    made = [part[step] for part in parts]
    rows = [row.id for part in made for row in part.rows]
    # The broken row is replaced alike, whoever loads it.
    assert rows == [row.id for row in whole.rows]
    assert sum((m.replaced for m in made), ()) == whole.replaced
    joined = np.concatenate([m.batch.prompts.patches for m in made])
    np.testing.assert_array_equal(joined, whole.batch.prompts.patches)
    assert len(source.row_ids(step)) == 4
    if not whole.replaced:
      assert source.row_ids(step) == rows
