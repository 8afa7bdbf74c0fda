"""Rows of the generated world (`jaxvlm.data.diagrams`)."""

import dataclasses
from collections.abc import Callable

from jaxvlm.data import diagrams
from jaxvlm.data.rows import Row
from jaxvlm.data.sources import generated

# (index of the problem, problem) -> texts to learn from
Responses = Callable[[int, diagrams.Problem], tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Mixture(generated.Mixture):
  """How a corpus answers diagrams; as `generated.Mixture`."""

  styles: tuple[str, ...] = diagrams.STYLES
  known = diagrams.STYLES


@dataclasses.dataclass(frozen=True)
class WorldRows(generated.GeneratedRows):
  """The first `count` problems of a split, drawn when they are asked for.

  Attributes:
    split: which block of seeds.
    count: number of rows.
    responses: writes the texts to learn from; None for prompts alone.
  """

  split: diagrams.Split
  count: int
  responses: Responses | None = None

  @property
  def identity(self) -> str:
    """What the rows are a function of, with the code that draws them.

    Empty where a function of the caller writes the texts.
    """
    known = self.responses is None or isinstance(self.responses, Mixture)
    return repr(self) if known else ""

  def draw(self, index: int) -> Row:
    """Returns row `index`."""
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
