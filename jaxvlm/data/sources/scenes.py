"""Rows of the generated world of scenes (`jaxvlm.data.scenes`)."""

import dataclasses
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from jaxvlm.data import negatives, scenes
from jaxvlm.data.negatives import Kind, Negative
from jaxvlm.data.rows import Row
from jaxvlm.data.scenes.lexicon import LEXICON

QUESTION = "Describe the picture."

_ANY = 2**32  # seeds of scenes that belong to no split


class Reference(NamedTuple):
  """What a caption of a scene is scored by."""

  meaning: scenes.Meaning
  captions: tuple[str, ...]


# (index of the scene, scene) -> texts to learn from, each with its kind
Texts = tuple[tuple[str, str], ...]
Responses = Callable[[int, scenes.Scene], Texts]


@dataclasses.dataclass(frozen=True)
class SceneRows(Sequence):
  """Some scenes of a split, drawn when they are asked for.

  Attributes:
    split: which block of seeds.
    indices: which scenes of it.
    responses: writes the texts to learn from; None for prompts alone.
  """

  split: scenes.Split
  indices: range
  responses: Responses | None = None

  def __len__(self) -> int:
    return len(self.indices)

  @property
  def identity(self) -> str:
    """What the rows are a function of, with the code that draws them.

    Empty where a function of the caller writes the texts.
    """
    known = (type(None), Captions, Careless, Pairs)
    return repr(self) if isinstance(self.responses, known) else ""

  def __getitem__(self, index):
    """Returns a row, or the rows of a slice, which are lazy as these."""
    if isinstance(index, slice):
      return dataclasses.replace(self, indices=self.indices[index])
    number = self.indices[index]
    scene = scenes.sample(self.split, number)
    texts = self.responses(number, scene) if self.responses else ()
    reference = Reference(scene.meaning, scene.references)
    return Row(
      id=f"{self.split.name}/{number}",
      question=QUESTION,
      reference=reference,
      reference_text=json.dumps(reference),
      images=(scene.image,),
      responses=tuple(text for text, _ in texts),
      kinds=tuple(kind for _, kind in texts),
      group=scene.meaning.relation or "alone",
    )


def two_stages(rows: SceneRows) -> tuple[SceneRows, SceneRows]:
  """Returns three quarters for Stage 1 and the rest for Stage 2.

  As arXiv:2510.11978 divides its training data.
  """
  first = len(rows) * 3 // 4
  return rows[:first], rows[first:]


@dataclasses.dataclass(frozen=True)
class Captions:
  """Right captions that say everything.

  Attributes:
    texts: captions of a picture.
    wordings: whose words and orders, in turn.
    seed: root of the draws; a scene's texts depend on it and its index.
  """

  texts: int = 1
  wordings: tuple[scenes.Wording, ...] = scenes.WORDINGS
  seed: int = 0

  def __call__(self, index: int, scene: scenes.Scene) -> Texts:
    rng = _rng(self.seed, index)
    wordings = rng.sample(self.wordings, len(self.wordings))
    written = scenes.captions(scene.meaning, self.texts, rng, wordings)
    return tuple((text, "") for text in written)


@dataclasses.dataclass(frozen=True)
class Careless:
  """Captions as a corpus from the wild has them: a share is wrong.

  Attributes:
    share: of captions that are wrong in one to `most` words.
    most: edits of a wrong caption, at most.
    texts: captions of a picture.
    seed: root of the draws; a scene's texts depend on it and its index.
  """

  share: float
  most: int = 3
  texts: int = 1
  seed: int = 0

  def __post_init__(self):
    if not 0 <= self.share <= 1:
      raise ValueError(f"share is {self.share}, expected 0 to 1")

  def __call__(self, index: int, scene: scenes.Scene) -> Texts:
    rng = _rng(self.seed, index)
    wordings = rng.sample(scenes.WORDINGS, len(scenes.WORDINGS))
    written = scenes.captions(scene.meaning, self.texts, rng, wordings)
    return tuple((self._spoiled(text, rng), "") for text in written)

  def _spoiled(self, text: str, rng: random.Random) -> str:
    if rng.random() >= self.share:
      return text
    for _ in range(rng.randint(1, self.most)):
      text = rng.choice(negatives.minimal_edits(text, LEXICON)).text
    return text


@dataclasses.dataclass(frozen=True)
class Pairs:
  """A right caption and a wrong one of the same wording.

  Attributes:
    kinds: of the negatives, equally likely where a caption allows them.
    fresh: share of chosen captions in the wording `scenes.FRESH`, the others
      are `scenes.PLAIN`.
    seed: root of the draws; a scene's texts depend on it and its index.
  """

  kinds: tuple[Kind, ...] = negatives.GENTLE
  fresh: float = 0.5
  seed: int = 0

  def __post_init__(self):
    unknown = set(self.kinds) - {*negatives.GENTLE, *negatives.EASY}
    if unknown or not self.kinds:
      raise ValueError(
        f"kinds are {tuple(map(str, self.kinds))}, expected some of"
        f" {', '.join((*negatives.GENTLE, *negatives.EASY))}"
      )
    if not 0 <= self.fresh <= 1:
      raise ValueError(f"fresh is {self.fresh}, expected 0 to 1")

  def __call__(self, index: int, scene: scenes.Scene) -> Texts:
    rng = _rng(self.seed, index)
    wording = scenes.FRESH if rng.random() < self.fresh else scenes.PLAIN
    (chosen,) = scenes.captions(scene.meaning, 1, rng, (wording,))
    # One kind may not apply (a relation of one thing); then another does.
    kinds = rng.sample(self.kinds, len(self.kinds))
    for kind in (*kinds, *negatives.GENTLE):
      rejected = wrong_caption(kind, chosen, scene.meaning, wording, rng)
      if rejected is not None:
        return (chosen, ""), (rejected.text, str(rejected.kind))
    raise AssertionError(f"no negative of {chosen!r}")


def wrong_caption(
  kind: Kind,
  chosen: str,
  meaning: scenes.Meaning,
  wording: scenes.Wording,
  rng: random.Random,
) -> Negative | None:
  """Returns a caption that is wrong of this scene; None if there is none.

  Args:
    kind: one of `negatives.GENTLE` or `negatives.EASY`.
    chosen: a right caption.
    meaning: of the scene.
    wording: of the caption of another picture.
    rng: source of randomness.
  """
  made = _candidates(kind, chosen, wording, rng)
  wrong = [
    one
    for one in made
    if scenes.agreement(scenes.read(one.text), meaning).exact < 1
  ]
  return rng.choice(wrong) if wrong else None


def _candidates(
  kind: Kind, chosen: str, wording: scenes.Wording, rng: random.Random
) -> Iterator[Negative]:
  if kind == Kind.OTHER_PICTURE:
    other = scenes.generate(rng.randrange(_ANY)).meaning
    (text,) = scenes.captions(other, 1, rng, (wording,))
    yield Negative(text, kind)
  elif kind == Kind.SHUFFLED:
    yield negatives.shuffled(chosen, rng)
  elif kind == Kind.TRUNCATED:
    yield negatives.truncated(chosen, rng)
  else:
    edits = negatives.minimal_edits(chosen, LEXICON)
    yield from (edit for edit in edits if edit.kind == kind)


def _rng(seed: int, index: int) -> random.Random:
  return random.Random(seed * 2**40 + index)
