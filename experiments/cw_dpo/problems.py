"""The study's rows: captions with negatives, pictures to caption, probes."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from experiments.cw_dpo.config import Dataset, StudyConfig
from jaxvlm.data import scenes
from jaxvlm.data.chat import Chat
from jaxvlm.data.negatives import GENTLE
from jaxvlm.data.rows import Row
from jaxvlm.data.sources import caption_probes, coco
from jaxvlm.data.sources.scenes import Pairs, SceneRows, Texts, two_stages
from jaxvlm.study import problems
from jaxvlm.study.problems import Measured, Problems
from jaxvlm.tasks import Task
from jaxvlm.tasks import coco as coco_task
from jaxvlm.tasks import scenes as scene_task


@dataclasses.dataclass(frozen=True)
class Chosen:
  """The chosen captions of pairs alone: what plain SFT reads of them."""

  pairs: Pairs

  def __call__(self, index: int, scene: scenes.Scene) -> Texts:
    return self.pairs(index, scene)[:1]


class Rows(NamedTuple):
  """All rows of the study.

  Attributes:
    task: scores captions.
    training: stage -> rows with captions; "sft" is "sft_c" without negatives.
    measured: pictures to caption.
    probes: pictures that no stage reads, with probe captions.
    asked: stage -> how many rows were asked for.
  """

  task: Task
  training: dict[str, Sequence[Row]]
  measured: Sequence[Row]
  probes: tuple[Row, ...]
  asked: dict[str, int]


def read(config: StudyConfig) -> Rows:
  """Returns the rows of the study's data set, before any is looked at."""
  if config.dataset is Dataset.COCO:
    return _coco(config)
  return _scenes(config)


def load(
  config: StudyConfig,
  chat: Chat,
  rows: Rows,
  folder: pathlib.Path | None = None,
  *,
  write: bool = True,
) -> Problems:
  """Surveys and encodes the study's problems (`problems.load`)."""
  if config.dataset is Dataset.COCO:
    # The pictures of scenes have one size, these have not.
    problems.warn_of_shapes(problems.make_encoder(config.data, chat))
  asked = config.evaluation.pictures
  return problems.load(
    config,
    chat,
    rows.task,
    rows.training,
    [Measured("validation", rows.measured, asked)],
    folder=folder,
    write=write,
    asked=rows.asked,
  )


def _scenes(config: StudyConfig) -> Rows:
  data, e, task = config.data, config.evaluation, scene_task.task()
  first, second = two_stages(SceneRows(scenes.TRAIN, range(data.pictures)))
  gentle = Pairs(GENTLE, fresh=0.0)
  probed = range(data.pictures, data.pictures + config.probes.problems)
  made = {
    "sft": (first, Chosen(gentle)),
    "sft_c": (first, gentle),
    "stage2": (second, Pairs(data.negatives, fresh=data.fresh)),
  }
  return Rows(
    task,
    {
      name: dataclasses.replace(rows, responses=responses)
      for name, (rows, responses) in made.items()
    },
    task.rows(e.split)[: e.pictures],
    tuple(SceneRows(scenes.TRAIN, probed, caption_probes.ProbeCaptions())),
    asked={},  # as many as wanted are generated
  )


def _coco(config: StudyConfig) -> Rows:
  data, e, task = (
    config.data,
    config.evaluation,
    coco_task.task(config.data_dir),
  )
  pictures = task.rows(data.split)[: data.pictures]
  cut, wanted = (_first_stage(n) for n in (len(pictures), data.pictures))
  gentle = coco.Pairs(GENTLE)(pictures[:cut])
  measured = task.rows(e.split)
  return Rows(
    task,
    {
      "sft": [
        dataclasses.replace(
          row, responses=row.responses[:1], kinds=row.kinds[:1]
        )
        for row in gentle
      ],
      "sft_c": gentle,
      "stage2": coco.Pairs(data.negatives)(pictures[cut:]),
    },
    measured[: e.pictures],
    caption_probes.of_captions(measured[: config.probes.problems]),
    asked={
      "sft": wanted,
      "sft_c": wanted,
      "stage2": data.pictures - wanted,
    },
  )


def _first_stage(pictures: int) -> int:
  """Returns how many of the pictures Stage 1 reads.

  Three quarters, as the paper; the caption of another picture needs two.
  """
  return min(pictures * 3 // 4, pictures - 2)
