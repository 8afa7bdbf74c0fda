"""Rows of the generated world (`jaxvlm.data.diagrams`)."""

import dataclasses
import random
from collections.abc import Callable, Sequence

from jaxvlm.data import diagrams
from jaxvlm.data.rows import Row

# (index of the problem, problem) -> texts to learn from
Responses = Callable[[int, diagrams.Problem], tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class WorldRows(Sequence):
  """The first `count` problems of a split, drawn when they are asked for.

  Attributes:
    split: which block of seeds.
    count: number of rows.
    responses: writes the texts to learn from; None for prompts alone.
  """

  split: diagrams.Split
  count: int
  responses: Responses | None = None

  def __len__(self) -> int:
    return self.count

  @property
  def identity(self) -> str:
    """What the rows are a function of, with the code that draws them.

    Empty where a function of the caller writes the texts.
    """
    known = self.responses is None or isinstance(self.responses, Mixture)
    return repr(self) if known else ""

  def __getitem__(self, index):
    """Returns a row, or the rows of a slice; the first n are lazy as these."""
    if isinstance(index, slice):
      first, end, step = index.indices(self.count)
      if (first, step) == (0, 1):
        return dataclasses.replace(self, count=end)
      return [self[i] for i in range(first, end, step)]
    if not 0 <= index < self.count:
      raise IndexError(index)
    problem = diagrams.sample(self.split, index)
    texts = self.responses(index, problem) if self.responses else ()
    return Row(
      id=f"{self.split.name}/{index}",
      question=problem.question,
      reference=problem.answer,
      images=(problem.image,),
      responses=texts,
      group=problem.family,
    )


@dataclasses.dataclass(frozen=True)
class Mixture:
  """How a corpus answers: a random draw of ways for every problem.

  Attributes:
    styles: the good solutions' styles, equally likely.
    careless: share of careless work, which is right one time in five; what a
      corpus from the wild contains and a curated one does not.
    texts: responses per problem.
    seed: root of the draws; a problem's texts depend on it and its index.
  """

  styles: tuple[str, ...] = diagrams.STYLES
  careless: float = 0.0
  texts: int = 1
  seed: int = 0

  def __post_init__(self):
    if isinstance(self.styles, str):
      raise ValueError(
        f"styles is the text {self.styles!r}, expected a tuple of names such"
        f" as {diagrams.STYLES}"
      )
    unknown = sorted(set(self.styles) - set(diagrams.STYLES))
    if unknown or not self.styles:
      raise ValueError(
        f"styles are {self.styles}, expected some of {diagrams.STYLES}"
      )
    if not 0 <= self.careless <= 1:
      raise ValueError(f"careless is {self.careless}, expected 0 to 1")

  def __call__(self, index: int, problem: diagrams.Problem) -> tuple[str, ...]:
    rng = random.Random(self.seed * 2**40 + index)
    return tuple(
      problem.careless(rng)
      if rng.random() < self.careless
      else problem.solutions[rng.choice(self.styles)]
      for _ in range(self.texts)
    )
