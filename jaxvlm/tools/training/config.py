"""Settings of `jaxvlm train`: those of a study of one arm with one stage."""

import dataclasses
from dataclasses import field
from typing import Any

from jaxvlm.config import FilePath
from jaxvlm.study import config as settings
from jaxvlm.study.config import StageConfig, setting
from jaxvlm.tasks import plugin
from jaxvlm.train.assemble import Form

ARM = "run"


def _fixed(value: Any) -> Any:
  """Returns a field that is no setting here: it has no flag."""
  return field(default=value, compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(settings.DataConfig):
  """Rows to learn from; shapes that are not given follow from them."""

  path: FilePath = setting("rows to learn from: a file or a folder", "")
  layout: str = setting("layout of the rows; empty: found by their fields", "")
  columns: tuple[str, ...] = setting(
    "other names of fields, as question=problem,answer=solution", ()
  )
  split: str = setting(
    "in a folder, the files whose names begin so; of the Hub, the split", ""
  )
  pictures: FilePath = setting(
    "folder that picture paths are relative to; empty: that of the rows", ""
  )
  min_pixels: int | None = setting(
    "smallest picture, pixels; none: as the model's folder says", None
  )
  max_pixels: int | None = setting(
    "largest picture, pixels; none: as the model's folder says", None
  )
  prompt_tokens: tuple[int, ...] = setting(
    "prompt length of each bucket; empty: found from the rows", ()
  )
  patch_slots: tuple[int, ...] = setting(
    "patch slots of each bucket; empty: found from the rows", ()
  )
  pack: int = setting(
    "tokens of a stream that short rows of text share; 0: each has its own", 0
  )
  max_new_tokens: int | None = setting(
    "longest completion; none: the rows' longest, 256 where it is sampled", None
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig(settings.EvaluationConfig):
  """How the policy is measured on the way, if there are rows for it."""

  path: FilePath = setting("rows to measure on, never trained on", "")
  split: str = setting("as data.split, of the rows to measure on", "")
  every: int = _fixed(20)  # a stage has its own
  samples: int = setting("sampled answers a problem, where they are scored", 4)
  prompts: int = setting("rows in a batch of an evaluation", 8)
  endpoint_evaluations: int = _fixed(1)
  max_missing: float = setting(
    "share of the rows to measure on that may be unusable", 0.01
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(settings.StudyConfig):
  """One run, but for the settings of its objective."""

  objective: str = _fixed("")
  model_dir: FilePath = setting(
    "Hugging Face folder, or a shipped model's name", "nano-base"
  )
  teacher_dir: FilePath = setting("teacher of OPD: a folder, or a name", "")
  int8_teacher: bool = setting("the teacher's matrices in 8 bits", False)
  reward: str = setting(
    "what scores sampled answers: a name, module:function or file.py:function",
    "",
  )
  reward_seconds: float = setting(
    "longest that a reward function of yours may take for an answer, seconds",
    plugin.SECONDS,
  )
  data: DataConfig = field(default_factory=DataConfig)
  evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
  arms: tuple[str, ...] = _fixed((ARM,))
  seeds: int = _fixed(1)
  first_seed: int = setting("of the order of rows, and of samples", 0)
  scan_layers: bool = setting(
    "scan over layers; unrolled compiles longer", True
  )

  @property
  def teacher_form(self) -> Form:
    """In which form the teacher is kept."""
    return dataclasses.replace(self.form, int8=self.int8_teacher)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(TrainConfig):
  """One run."""

  stage: StageConfig
