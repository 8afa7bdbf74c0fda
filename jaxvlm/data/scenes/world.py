"""Scenes from seeds: splits own disjoint blocks of seeds and disjoint contents.

A scene is a pure function of its seed. A hash of its meaning decides for which
splits it may be used: what validation and tuning ask was never seen in
training, whatever the picture.
"""

import dataclasses
import hashlib
import random

import numpy as np

from jaxvlm.data import seeds
from jaxvlm.data.scenes import drawing, wording
from jaxvlm.data.scenes.meaning import (
  BACKGROUNDS,
  COLORS,
  MOST_OBJECTS,
  RELATIONS,
  SHAPES,
  SIZES,
  Meaning,
  Thing,
)

REFERENCES = 6  # captions of a picture that scores compare with

_ALONE = 0.3  # share of pictures with one thing
_SHARES = 8  # one content in so many belongs to each held-out share
_TRAINING = None  # the contents that no other split takes


@dataclasses.dataclass(frozen=True)
class Split:
  """A block of seeds, and a share of the contents.

  Attributes:
    name: the split's name.
    block: the split owns the seeds from block·2⁴⁰ to (block + 1)·2⁴⁰ - 1.
    share: of the hash of contents: 0 validation, 1 tuning, None all others.
    alone: share of pictures with one thing.
  """

  name: str
  block: int
  share: int | None
  alone: float = _ALONE


# What a color or a shape is can be learned where one thing is: of two, a
# caption may name either one first.
PRETRAIN = Split("pretrain", 1, _TRAINING, alone=0.7)
TRAIN = Split("train", 2, _TRAINING)
TUNING = Split("tuning", 3, 1)
VALIDATION = Split("validation", 4, 0)
SPLITS = {s.name: s for s in (PRETRAIN, TRAIN, TUNING, VALIDATION)}


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
  """A picture with its meaning and captions.

  Attributes:
    meaning: what is there.
    references: `REFERENCES` different captions, of all wordings in turn.
    image: u8[112, 112, 3], read-only.
    seed: `generate` gives this scene again.
  """

  meaning: Meaning
  references: tuple[str, ...]
  image: np.ndarray
  seed: int


def generate(seed: int, alone: float = _ALONE) -> Scene:
  """Returns the scene of this seed, always the same.

  Args:
    seed: any integer.
    alone: chance that one thing is there.
  """
  rng = random.Random(seed)
  meaning = _pose(rng, alone)
  image = drawing.draw(meaning, rng)
  references = wording.captions(meaning, REFERENCES, rng)
  return Scene(meaning, references, image, seed)


def sample(split: Split, index: int) -> Scene:
  """Returns scene number `index` of a split, always the same.

  Args:
    split: one of this module's splits.
    index: 0 to 2³² - 1.

  Raises:
    ValueError: if the index lies outside the split's block of seeds.
  """
  seed = seeds.first(split.name, split.block, index)
  while _share(_pose(random.Random(seed), split.alone)) != split.share:
    seed += 1
  return generate(seed, split.alone)


def _pose(rng: random.Random, alone: float) -> Meaning:
  background = rng.choice(BACKGROUNDS)
  if rng.random() < alone:
    thing = _thing(rng, MOST_OBJECTS)
    return Meaning((thing,), None, background)
  first = _thing(rng, MOST_OBJECTS - 1)
  second = _thing(rng, MOST_OBJECTS - first.count)
  # Two things of one look would be one thing.
  while second[1:] == first[1:]:
    second = _thing(rng, MOST_OBJECTS - first.count)
  return Meaning((first, second), rng.choice(RELATIONS), background)


def _thing(rng: random.Random, most: int) -> Thing:
  return Thing(
    rng.randint(1, most),
    rng.choice(SIZES),
    rng.choice(COLORS),
    rng.choice(SHAPES),
  )


def _share(meaning: Meaning) -> int | None:
  """Returns which held-out share a content belongs to, if any."""
  # Not hash(): that of strings changes from process to process.
  digest = hashlib.blake2b(repr(meaning).encode(), digest_size=8).digest()
  share = int.from_bytes(digest) % _SHARES
  held_out = {s.share for s in SPLITS.values()} - {_TRAINING}
  return share if share in held_out else _TRAINING
