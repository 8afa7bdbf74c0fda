"""The world of scenes: pictures show what captions say, and both are exact."""

import collections
import dataclasses
import hashlib
import random

import numpy as np
import pytest

from jaxvlm.data import scenes
from jaxvlm.data.scenes import drawing
from jaxvlm.data.scenes.meaning import (
  ABOVE,
  BACKGROUNDS,
  COLORS,
  LEFT,
  SHAPES,
  SIZES,
  Meaning,
  Thing,
)

RED = Thing(1, "small", "red", "circle")
BLUE = Thing(2, "large", "blue", "square")
TWO = Meaning((RED, BLUE), LEFT, "white")
GOLDEN = "dc86620fb9532c19211579eb73b5a5337c1415c3f56d2e4dd2999cfc44e63d9b"


def _many(count):
  return [scenes.sample(scenes.TRAIN, index) for index in range(count)]


def _blobs(image, color):
  """Returns (row, column, height, width) of a color's pieces, by flooding."""
  left = {tuple(p) for p in np.argwhere((image == color).all(-1))}
  found = []
  while left:
    edge, piece = [left.pop()], []
    while edge:
      y, x = edge.pop()
      piece.append((y, x))
      for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
        if near in left:
          left.remove(near)
          edge.append(near)
    ys, xs = np.array(piece).T
    size = (np.ptp(ys) + 1, np.ptp(xs) + 1)
    found.append((ys.mean(), xs.mean(), *size, len(piece)))
  return found


def test_pictures_show_what_is_meant():
  """Count, size, color, shape and relation are read from the pixels."""
  area = {"circle": 0.78, "square": 1, "triangle": 0.5, "diamond": 0.5}
  for scene in _many(60):
    meaning = scene.meaning
    assert meaning.background == min(
      BACKGROUNDS,
      key=lambda name: abs(
        np.median(scene.image, (0, 1)) - drawing._PAPER[name]
      ).sum(),
    )
    colors = [thing.color for thing in meaning.things]
    middles = []
    for thing in meaning.things:
      blobs = _blobs(scene.image, drawing._PAINT[thing.color])
      side = 2 * drawing._REACH[thing.size] + 1
      if colors.count(thing.color) == 1:
        assert len(blobs) == thing.count
        assert all(blob[2:4] == (side, side) for blob in blobs)
        share = blobs[0][4] / side**2
        if thing.shape in area:
          assert share == pytest.approx(area[thing.shape], abs=0.06)
        middles.append([blob[:2] for blob in blobs])
    if meaning.relation and len(middles) == 2:
      axis = 1 if meaning.relation == LEFT else 0
      first, second = (np.array(part) for part in middles)
      assert first[:, axis].max() < second[:, axis].min()
      # … and along the other axis they are not apart by a whole cell.
      other = 1 - axis
      assert first[:, other].min() - second[:, other].max() < drawing.CELL
      assert second[:, other].min() - first[:, other].max() < drawing.CELL


def test_an_edge_lies_between_every_object_and_the_paper():
  """What shape it is can be seen whatever its color."""
  for scene in _many(30):
    paper = drawing._PAPER[scene.meaning.background]
    bare = (scene.image == paper).all(-1)
    ink = (scene.image == drawing._INK).all(-1)
    painted = ~bare & ~ink
    assert painted.any() and ink.any()
    assert not (drawing._grown(painted, 1) & bare).any()


def test_references_differ_and_say_everything():
  words = collections.Counter()
  for scene in _many(300):
    assert len(set(scene.references)) == scenes.REFERENCES >= 5
    for caption in scene.references:
      assert scenes.read(caption) == scene.meaning
      words.update(caption.split())
  assert words["left"] and words["right"] and words["over"] and words["below"]


@pytest.mark.parametrize("wording", scenes.WORDINGS)
def test_every_frame_is_read_as_it_is_written(wording):
  rng = random.Random(0)
  for relation in (LEFT, ABOVE):
    meaning = TWO._replace(relation=relation)
    for caption in scenes.captions(meaning, 40, rng, (wording,)):
      assert scenes.read(caption) == meaning
      assert scenes.read(caption.upper() + " .") == meaning


def test_wordings_share_no_noun_frame_or_relation():
  """What Stage 2 says anew, Stage 1 cannot have seen."""
  plain, fresh = (
    {
      caption
      for scene in _many(80)
      for caption in scenes.captions(
        scene.meaning, 8, random.Random(0), (wording,)
      )
    }
    for wording in scenes.WORDINGS
  )
  assert not plain & fresh
  shared = set(" ".join(plain).split()) & set(" ".join(fresh).split())
  assert shared.isdisjoint({"small", "little", "circle", "disc", "above"})


@pytest.mark.parametrize(
  "caption, meaning, objects, attributes, relations, exact",
  [
    # 2 things, 6 attributes, background, relation: 10 facts.
    (
      "a small red circle to the left of two large blue squares on a white"
      " background",
      *(1, 1, 1, 1, 1),
    ),
    (
      "a small red circle to the right of two large blue squares on a white"
      " background",
      *(0.9, 1, 1, 0, 0),
    ),
    (
      "a small blue circle to the left of two large red squares on a white"
      " background",
      *(0.8, 1, 5 / 7, 1, 0),
    ),
    # 1 + 3 said and right, of 10.
    ("a small red circle", 8 / 14, 2 / 3, 6 / 10, 0, 0),
    ("", 0, 0, 0, 0, 0),
    # Another shape is another thing: its color counts for nothing.
    ("a small red diamond", 0, 0, 0, 0, 0),
    # Said twice is once too often: 8 said, 4 right.
    (
      "a small red circle and a small red circle",
      *(8 / 18, 2 / 4, 6 / 13, 0, 0),
    ),
  ],
)
def test_agreement_counts_facts(
  caption, meaning, objects, attributes, relations, exact
):
  found = scenes.agreement(scenes.read(caption), TWO)
  wanted = (meaning, objects, attributes, relations, exact)
  assert found == pytest.approx(wanted)


def test_agreement_takes_the_best_match():
  """Two circles: whose color is right does not depend on their order."""
  other = Thing(1, "small", "green", "circle")
  true = Meaning((RED, other), LEFT, "white")
  said = true._replace(things=(other, RED))
  found = scenes.agreement(said, true)
  # Everything but the relation, which is the wrong way round.
  assert found == pytest.approx((0.9, 1, 1, 0, 0))
  assert scenes.agreement(true, true) == (1, 1, 1, 1, 1)


def test_splits_share_no_content_and_no_seed():
  seen = {
    name: {scenes.sample(split, i).meaning for i in range(150)}
    for name, split in scenes.SPLITS.items()
  }
  held_out = seen["validation"] | seen["tuning"]
  assert not held_out & (seen["pretrain"] | seen["train"])
  assert not seen["validation"] & seen["tuning"]
  with pytest.raises(ValueError, match="no more seeds"):
    scenes.sample(scenes.TRAIN, 2**32)


def test_every_value_occurs():
  things = [t for s in _many(300) for t in s.meaning.things]
  assert {t.size for t in things} == set(SIZES)
  assert {t.color for t in things} == set(COLORS)
  assert {t.shape for t in things} == set(SHAPES)
  assert {t.count for t in things} == {1, 2, 3, 4}
  assert max(sum(t.count for t in s.meaning.things) for s in _many(99)) == 4


def test_scenes_are_the_same_everywhere():
  digest = hashlib.sha256()
  for scene in _many(40):
    digest.update(scene.image.tobytes())
    digest.update(repr((scene.meaning, scene.references)).encode())
  assert digest.hexdigest() == GOLDEN


def test_a_wording_is_a_value():
  assert dataclasses.is_dataclass(scenes.PLAIN)
  assert not scenes.generate(3).image.flags.writeable
