"""The world of small programs; its tests are run in the sandbox."""

from jaxvlm.data import programs
from jaxvlm.data.sources.programs import Mixture, ProgramRows
from jaxvlm.rewards.code import Level
from jaxvlm.tasks import tested
from jaxvlm.tasks.task import Task

SPLITS = {
  split.name: split
  for split in (
    programs.PRETRAIN,
    programs.SFT_TRACES,
    programs.RL_TRAIN,
    programs.VALIDATION,
    programs.TEST,
  )
}
# Below 2³², where a split has no more seeds; nobody draws so many.
_ENDLESS = 2**31


def task(
  responses: Mixture | None = None, *, level: Level = Level.NAMESPACES
) -> Task:
  """Returns the task; its splits do not end, take `rows(split)[:n]`.

  Args:
    responses: writes the programs to learn from; None for prompts alone.
    level: how programs are walled in.
  """

  def rows(split: str) -> ProgramRows:
    if split not in SPLITS:
      raise ValueError(
        f"split {split!r} of the programs is not known, expected one of"
        f" {', '.join(SPLITS)}"
      )
    return ProgramRows(SPLITS[split], _ENDLESS, responses)

  return Task(
    name="programs",
    rows=rows,
    reward=tested.Passes(level),
    metrics=("accuracy",),
    answer=tested.answer,
  )
