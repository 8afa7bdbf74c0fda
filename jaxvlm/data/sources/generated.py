"""Rows that are drawn when they are asked for, and how they are answered."""

import abc
import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from jaxvlm.data.rows import Row


class GeneratedRows(Sequence, abc.ABC):
  """The first `count` rows of a generated world; a dataclass of its settings.

  Attributes:
    count: number of rows.
  """

  count: int

  @abc.abstractmethod
  def draw(self, index: int) -> Row:
    """Returns row `index`, always the same."""

  def __len__(self) -> int:
    return self.count

  def __getitem__(self, index):
    """Returns a row, or the rows of a slice; the first n are lazy as these."""
    if isinstance(index, slice):
      first, end, step = index.indices(self.count)
      if (first, step) == (0, 1):
        return dataclasses.replace(self, count=end)
      return [self[i] for i in range(first, end, step)]
    if not 0 <= index < self.count:
      raise IndexError(index)
    return self.draw(index)


class Solved(Protocol):
  """A problem with good solutions, and with careless ones to be drawn."""

  @property
  def solutions(self) -> Mapping[str, str]: ...

  def careless(self, rng: random.Random) -> str: ...


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

  styles: tuple[str, ...] = ()
  careless: float = 0.0
  texts: int = 1
  seed: int = 0

  # The styles that the world's problems have.
  known: ClassVar[tuple[str, ...]] = ()

  def __post_init__(self):
    if isinstance(self.styles, str):
      raise ValueError(
        f"styles is the text {self.styles!r}, expected a tuple of names such"
        f" as {self.known}"
      )
    unknown = sorted(set(self.styles) - set(self.known))
    if unknown or not self.styles:
      raise ValueError(
        f"styles are {self.styles}, expected some of {self.known}"
      )
    if not 0 <= self.careless <= 1:
      raise ValueError(f"careless is {self.careless}, expected 0 to 1")

  def __call__(self, index: int, problem: Solved) -> tuple[str, ...]:
    rng = random.Random(self.seed * 2**40 + index)
    return tuple(
      problem.careless(rng)
      if rng.random() < self.careless
      else problem.solutions[rng.choice(self.styles)]
      for _ in range(self.texts)
    )
