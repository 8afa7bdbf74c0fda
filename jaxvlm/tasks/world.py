"""The generated diagrams; answers are exact."""

from jaxvlm.data import diagrams
from jaxvlm.data.sources.world import Responses, WorldRows
from jaxvlm.tasks import boxed
from jaxvlm.tasks.task import Task, one_by_one

SPLITS = {
  split.name: split
  for split in (
    diagrams.PRETRAIN,
    diagrams.SFT_TRACES,
    diagrams.RL_TRAIN,
    diagrams.VALIDATION,
    diagrams.VALIDATION_OOD,
  )
}
# Below 2³², where a split has no more seeds; nobody draws so many.
_ENDLESS = 2**31


def task(responses: Responses | None = None) -> Task:
  """Returns the task; its splits do not end, take `rows(split)[:n]`.

  Args:
    responses: writes the texts to learn from; None for prompts alone.
  """

  def rows(split: str) -> WorldRows:
    if split not in SPLITS:
      raise ValueError(
        f"split {split!r} of the world is not known, expected one of"
        f" {', '.join(SPLITS)}"
      )
    return WorldRows(SPLITS[split], _ENDLESS, responses)

  return Task(
    name="world",
    rows=rows,
    reward=one_by_one(boxed.scores),
    metrics=("accuracy", "format"),
    answer=boxed.answer,
    pictures=True,
  )
