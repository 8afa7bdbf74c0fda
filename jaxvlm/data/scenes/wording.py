"""Captions of a scene in many words and orders, and their exact reading.

A caption is a frame filled with noun phrases (N) and a background (B). The
table of frames that writes captions also reads them, so that what a caption
says is known exactly, and what is no caption of the world (shuffled, cut off)
says no more than its noun phrases.
"""

import dataclasses
import functools
import itertools
import random
import re
from collections.abc import Iterator, Sequence

from jaxvlm.data.scenes.meaning import (
  ABOVE,
  BACKGROUNDS,
  COLORS,
  LEFT,
  Meaning,
  Thing,
)

# Words of one shape, of one thing and of several.
PLURALS = {
  "circle": "circles",
  "square": "squares",
  "triangle": "triangles",
  "diamond": "diamonds",
  "cross": "crosses",
  "disc": "discs",
  "box": "boxes",
  "wedge": "wedges",
  "rhombus": "rhombuses",
  "plus": "pluses",
}
COUNTS = ("two", "three", "four")


@dataclasses.dataclass(frozen=True)
class Wording:
  """A way to write captions: words and orders of its own.

  Attributes:
    one: the word before a single thing.
    sizes: size -> word.
    shapes: shape -> its singular.
    single: frames of one thing.
    double: frames of two things.
    relations: relation -> the words for "first … second", and for the same
      thing seen from the second.
    places: relation -> the places of the first and of the second.
  """

  one: str
  sizes: dict[str, str]
  shapes: dict[str, str]
  single: tuple[str, ...]
  double: tuple[str, ...]
  relations: dict[str, tuple[str, str]]
  places: dict[str, tuple[str, str]]


# In frames: N a noun phrase, B the background, R the relation seen from the
# first noun, P and Q the places of the two, V is or are.
PLAIN = Wording(
  one="a",
  sizes={"small": "small", "large": "large"},
  shapes={
    shape: shape
    for shape in ("circle", "square", "triangle", "diamond", "cross")
  },
  single=(
    "N on a B background",
    "there V N on a B background",
    "a B picture with N",
    "on a B background there V N",
  ),
  double=(
    "N R N on a B background",
    "there V N R N on a B background",
    "a B picture with N R N",
  ),
  relations={
    LEFT: ("to the left of", "to the right of"),
    ABOVE: ("above", "below"),
  },
  places={},
)
FRESH = Wording(
  one="one",
  sizes={"small": "little", "large": "big"},
  shapes={
    "circle": "disc",
    "square": "box",
    "triangle": "wedge",
    "diamond": "rhombus",
    "cross": "plus",
  },
  single=(
    "N against B",
    "we see N against B",
    "in front of B V N",
    "B is behind N",
  ),
  double=(
    "N R N against B",
    "P N and Q N against B",
    "in front of B V N R N",
  ),
  relations={LEFT: ("left of", "right of"), ABOVE: ("over", "under")},
  places={
    LEFT: ("on the left", "on the right"),
    ABOVE: ("at the top", "at the bottom"),
  },
)
WORDINGS = (PLAIN, FRESH)


def captions(
  meaning: Meaning,
  count: int,
  rng: random.Random,
  wordings: Sequence[Wording] = WORDINGS,
) -> tuple[str, ...]:
  """Returns `count` captions that say everything, the wordings in turn.

  No two are equal while a wording has other frames left.

  Args:
    meaning: of a picture; nothing in it is left open.
    count: how many.
    rng: source of randomness.
    wordings: which words and frames are used.
  """
  decks = [_shuffled(_orders(meaning, wording), rng) for wording in wordings]
  turns = itertools.islice(
    zip(itertools.cycle(wordings), _deal(decks), strict=False), count
  )
  return tuple(_fill(meaning, wording, *order) for wording, order in turns)


def _shuffled(items: list, rng: random.Random) -> list:
  return rng.sample(items, len(items))


def _deal(decks: list[list]) -> Iterator:
  """Yields from the decks in turn, and each over again at its end."""
  yield from (
    card
    for cards in zip(*map(itertools.cycle, decks), strict=True)
    for card in cards
  )


def _orders(meaning: Meaning, wording: Wording) -> list[tuple[str, int]]:
  """Returns (frame, number of the thing that comes first)."""
  if meaning.relation is None:
    return [(frame, 0) for frame in wording.single]
  return [(frame, first) for frame in wording.double for first in (0, 1)]


def _fill(meaning: Meaning, wording: Wording, frame: str, first: int) -> str:
  things = meaning.things[first:] + meaning.things[:first]
  words = _relation_words(wording, meaning.relation, first) | {
    "V": "is" if things[0].count == 1 else "are",
    "B": meaning.background,
  }
  phrases = iter([_phrase(thing, wording) for thing in things])
  return " ".join(
    next(phrases) if word == "N" else words.get(word, word)
    for word in frame.split()
  )


def _relation_words(
  wording: Wording, relation: str | None, first: int
) -> dict[str, str]:
  """Returns what R, P and Q stand for when thing `first` comes first."""
  if relation is None:
    return {}
  words = {"R": wording.relations[relation][first]}
  if relation in wording.places:
    places = wording.places[relation]
    words |= {"P": places[first], "Q": places[1 - first]}
  return words


def _phrase(thing: Thing, wording: Wording) -> str:
  shape = wording.shapes[thing.shape]
  count = wording.one if thing.count == 1 else COUNTS[thing.count - 2]
  noun = shape if thing.count == 1 else PLURALS[shape]
  return f"{count} {wording.sizes[thing.size]} {thing.color} {noun}"


def _table(column: str) -> dict[str, str]:
  """Returns word -> meaning of all wordings' sizes or shapes."""
  return {
    word: meant
    for wording in WORDINGS
    for meant, word in getattr(wording, column).items()
  }


_SIZE_OF = _table("sizes")
_SHAPE_OF = {
  form: shape
  for word, shape in _table("shapes").items()
  for form in (word, PLURALS[word])
}
_COUNT_OF = {wording.one: 1 for wording in WORDINGS} | {
  word: number for number, word in enumerate(COUNTS, 2)
}


def _one_of(words) -> str:
  return "|".join(sorted(words, key=len, reverse=True))


# A count binds its noun over adjectives only, and a word is a whole word.
_NOUN = re.compile(
  rf"\b(?:({_one_of(_COUNT_OF)}) )?(?:({_one_of(_SIZE_OF)}) )?"
  rf"(?:({_one_of(COLORS)}) )?({_one_of(_SHAPE_OF)})\b"
)
_BACKGROUND = re.compile(rf"\b({_one_of(BACKGROUNDS)})\b")
_SPACES = re.compile(r"[\s.,]+")


@functools.cache
def _skeletons() -> dict[str, tuple[str | None, int]]:
  """Returns a caption with N and B for its words -> (relation, first)."""
  found: dict[str, tuple[str | None, int]] = {}
  for wording in WORDINGS:
    for verb in ("is", "are"):
      for frame in wording.single:
        found[_put(frame, {"V": verb})] = (None, 0)
      for frame in wording.double:
        for relation, first in itertools.product(wording.relations, (0, 1)):
          words = _relation_words(wording, relation, first)
          found[_put(frame, words | {"V": verb})] = (relation, first)
  return found


def _put(frame: str, words: dict[str, str]) -> str:
  return " ".join(words.get(word, word) for word in frame.split())


def read(caption: str) -> Meaning:
  """Returns what a caption says; of any other text, what its nouns say.

  Args:
    caption: case, full stops and commas do not matter.
  """
  text = _SPACES.sub(" ", caption.lower()).strip()
  things = tuple(
    Thing(
      _COUNT_OF.get(count), _SIZE_OF.get(size), color or None, _SHAPE_OF[shape]
    )
    for count, size, color, shape in _NOUN.findall(text)
  )
  skeleton = _NOUN.sub("N", text)
  backgrounds = _BACKGROUND.findall(skeleton)
  background = backgrounds[0] if len(backgrounds) == 1 else None
  relation, first = _skeletons().get(_BACKGROUND.sub("B", skeleton), (None, 0))
  return Meaning(things[first:] + things[:first], relation, background)
