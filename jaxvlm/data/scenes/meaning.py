"""What a picture of the world of scenes shows, and how right a caption is."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

SIZES = ("small", "large")
COLORS = ("red", "green", "blue", "orange", "purple", "black")
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
BACKGROUNDS = ("white", "gray", "yellow", "pink")
LEFT, ABOVE = "left", "above"
RELATIONS = (LEFT, ABOVE)
MOST_OBJECTS = 4

_ATTRIBUTES = ("count", "size", "color")


class Thing(NamedTuple):
  """Equal objects that stand together; None is what a caption leaves open.

  Attributes:
    count: 1 to 4.
    size: of `SIZES`.
    color: of `COLORS`.
    shape: of `SHAPES`.
  """

  count: int | None
  size: str | None
  color: str | None
  shape: str


class Meaning(NamedTuple):
  """A picture, or what a caption says of one.

  Attributes:
    things: one or two in a picture; a caption may name any number.
    relation: of `RELATIONS`: the first thing is left of the second, or above
      it; None: there is one thing, or nothing is said. What is right of
      something, or below, comes second.
    background: of `BACKGROUNDS`.
  """

  things: tuple[Thing, ...]
  relation: str | None
  background: str | None


class Agreement(NamedTuple):
  """How a caption agrees with a picture, each 0 to 1.

  F = 2·right / (said + true), over facts; as SPICE (arXiv:1607.08822,
  Section 3.2) over the tuples of a scene graph, which here is known exactly.

  Attributes:
    meaning: F over all facts.
    objects: F over things: which shapes are there.
    attributes: F over count, size and color of things, and the background.
    relations: F over the relation; 1 where none is said of one thing.
    exact: 1 where everything is said and right, and nothing more.
  """

  meaning: float
  objects: float
  attributes: float
  relations: float
  exact: float


class _Facts(NamedTuple):
  """Numbers of facts: objects, attributes, relations."""

  objects: int
  attributes: int
  relations: int


def agreement(said: Meaning, true: Meaning) -> Agreement:
  """Returns how what a caption says agrees with what is there.

  The things of the caption are matched with those of the picture in the way
  that makes most facts right; a color is right only at its own thing.

  Args:
    said: what a caption says (`wording.read`).
    true: the picture's.
  """
  right = max(
    (_right(pairs, said, true) for pairs in _matches(said, true)),
    key=lambda facts: (sum(facts), facts),
  )
  told, there = _facts(said), _facts(true)
  parts = [_f(*numbers) for numbers in zip(right, told, there, strict=True)]
  return Agreement(
    _f(sum(right), sum(told), sum(there)),
    *parts,
    exact=float(right == told == there),
  )


def _f(right: int, said: int, true: int) -> float:
  return 2 * right / (said + true) if said + true else 1.0


def _matches(
  said: Meaning, true: Meaning
) -> Iterator[tuple[tuple[int, int], ...]]:
  """Yields ways to match things: pairs (number in said, number in true)."""
  told, there = range(len(said.things)), range(len(true.things))
  if len(told) <= len(there):
    for order in itertools.permutations(there, len(told)):
      yield tuple(zip(told, order, strict=True))
  else:
    for order in itertools.permutations(told, len(there)):
      yield tuple(zip(order, there, strict=True))


def _right(
  pairs: tuple[tuple[int, int], ...], said: Meaning, true: Meaning
) -> _Facts:
  """Returns how many facts are right under a match."""
  # A thing of another shape is another thing, whatever its color.
  pairs = tuple(
    (i, j) for i, j in pairs if said.things[i].shape == true.things[j].shape
  )
  attributes = sum(
    getattr(said.things[i], name) == getattr(true.things[j], name)
    for i, j in pairs
    for name in _ATTRIBUTES
  )
  related = (
    true.relation is not None
    and said.relation == true.relation
    and pairs == ((0, 0), (1, 1))
  )
  background = said.background == true.background
  return _Facts(len(pairs), attributes + background, int(related))


def _facts(meaning: Meaning) -> _Facts:
  attributes = sum(
    getattr(thing, name) is not None
    for thing in meaning.things
    for name in _ATTRIBUTES
  )
  return _Facts(
    len(meaning.things),
    attributes + (meaning.background is not None),
    int(meaning.relation is not None),
  )
