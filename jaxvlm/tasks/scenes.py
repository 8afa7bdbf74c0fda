"""Captions of the generated scenes; what they say is scored exactly."""

from jaxvlm.data import scenes
from jaxvlm.data.sources.scenes import Reference, Responses, SceneRows
from jaxvlm.tasks.task import Task, one_by_one

# Below 2³², where a split has no more seeds; nobody draws so many.
_ENDLESS = 2**31


def scores(response: str, reference: Reference) -> dict[str, float]:
  """Returns how a caption agrees with the scene, 0 to 1 each.

  Args:
    response: the caption.
    reference: the scene's.

  Returns:
    `scenes.Agreement` by name; "reward" is its `meaning`.
  """
  found = scenes.agreement(scenes.read(response), reference.meaning)
  return {**found._asdict(), "reward": found.meaning}


def task(responses: Responses | None = None) -> Task:
  """Returns the task; its splits do not end, take `rows(split)[:n]`.

  Args:
    responses: writes the texts to learn from; None for prompts alone.
  """

  def rows(split: str) -> SceneRows:
    if split not in scenes.SPLITS:
      raise ValueError(
        f"split {split!r} of the scenes is not known, expected one of"
        f" {', '.join(scenes.SPLITS)}"
      )
    return SceneRows(scenes.SPLITS[split], range(_ENDLESS), responses)

  return Task(
    name="scenes",
    rows=rows,
    reward=one_by_one(scores),
    metrics=("exact", "meaning", "objects", "attributes", "relations"),
    pictures=True,
  )
