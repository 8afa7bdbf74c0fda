"""Rows of the world of small programs (`jaxvlm.data.programs`)."""

import dataclasses

from jaxvlm.data import programs
from jaxvlm.data.rows import Row
from jaxvlm.data.sources import generated


@dataclasses.dataclass(frozen=True)
class Mixture(generated.Mixture):
  """How a corpus writes programs; as `generated.Mixture`."""

  styles: tuple[str, ...] = programs.STYLES
  known = programs.STYLES


@dataclasses.dataclass(frozen=True)
class ProgramRows(generated.GeneratedRows):
  """The first `count` problems of a split, drawn when they are asked for.

  Attributes:
    split: which block of seeds.
    count: number of rows.
    responses: writes the programs to learn from; None for prompts alone.
  """

  split: programs.Split
  count: int
  responses: Mixture | None = None

  @property
  def identity(self) -> str:
    """What the rows are a function of, with the code that draws them."""
    return repr(self)

  def draw(self, index: int) -> Row:
    """Returns row `index`: its reference is the text of the hidden tests."""
    problem = programs.sample(self.split, index)
    return Row(
      id=f"{self.split.name}/{index}",
      question=problem.prompt,
      reference=problem.tests,
      responses=self.responses(index, problem) if self.responses else (),
      group=problem.family,
    )
