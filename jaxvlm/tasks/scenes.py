"""Captions of the generated scenes: scored exactly, and by references."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from jaxvlm.data import scenes
from jaxvlm.data.rows import Row
from jaxvlm.data.sources.scenes import Responses, SceneRows
from jaxvlm.rewards.captions import caption_frequencies, score_captions
from jaxvlm.rewards.cider import Frequencies
from jaxvlm.tasks.task import Task

# Below 2³², where a split has no more seeds; nobody draws so many.
_ENDLESS = 2**31
_CORPUS = 400  # scenes of the training split whose words CIDEr counts


def reward(
  responses: Sequence[str], rows: Sequence[Row]
) -> Mapping[str, Sequence[float] | np.ndarray]:
  """Returns how captions agree with their scenes.

  Args:
    responses: the captions.
    rows: their rows (`data.sources.scenes`).

  Returns:
    `scenes.Agreement` by name, of which `meaning` is the reward, and CIDEr.
  """
  agreed = [
    scenes.agreement(scenes.read(text), row.reference.meaning)
    for text, row in zip(responses, rows, strict=True)
  ]
  likeness = score_captions(
    responses, [row.reference.captions for row in rows], corpus=_corpus()
  )
  found = dict(
    zip(scenes.Agreement._fields, zip(*agreed, strict=True), strict=True)
  )
  return {
    **found,
    "CIDEr": likeness.per_image["CIDEr"],
    "reward": found["meaning"],
  }


@functools.cache
def _corpus() -> Frequencies:
  return caption_frequencies(
    [scenes.sample(scenes.TRAIN, i).references for i in range(_CORPUS)]
  )


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
    reward=reward,
    metrics=("exact", "meaning", "objects", "attributes", "relations", "CIDEr"),
    pictures=True,
  )
