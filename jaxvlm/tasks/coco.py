"""COCO captions in the Karpathy split, scored by reference captions."""

import functools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxvlm.data.rows import Row
from jaxvlm.data.sources import coco
from jaxvlm.rewards.captions import caption_frequencies, score_captions
from jaxvlm.rewards.cider import Frequencies
from jaxvlm.tasks.task import Task


def task(folder: str | pathlib.Path) -> Task:
  """Returns the task of a folder (`data.sources.coco.rows`).

  The reward is CIDEr-D, as in self-critical training (arXiv:1612.00563), with
  the document frequencies of the row's own split: evaluated over a whole split,
  its mean is the CIDEr that papers print. BLEU is of each picture, whose mean
  is not the corpus' (`score_captions` gives that).

  Args:
    folder: with dataset_coco.json or images.json, and the pictures.
  """
  rows = functools.partial(coco.rows, folder)

  @functools.cache
  def corpus(split: str) -> Frequencies:
    known = [row.reference for row in rows(split) if row.reference]
    return caption_frequencies(known)

  def reward(
    responses: Sequence[str], asked: Sequence[Row]
  ) -> Mapping[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for split in dict.fromkeys(row.group for row in asked):
      at = [i for i, row in enumerate(asked) if row.group == split]
      scored = score_captions(
        [responses[i] for i in at],
        [asked[i].reference for i in at],
        corpus=corpus(split),
      ).per_image
      for name, values in scored.items():
        found.setdefault(name, np.zeros(len(asked)))[at] = values
    return {**found, "reward": found["CIDEr"]}

  return Task(
    name="coco",
    rows=rows,
    reward=reward,
    metrics=("CIDEr", "Bleu_4", "ROUGE_L"),
    pictures=True,
  )
