"""Settings of the study at three scales; one code path, other numbers.

The paper publishes neither λ, C, β and τ nor rates, batches and lengths: a
number without a source is ours.
"""

import dataclasses
import enum
from dataclasses import field, replace

from experiments.cw_dpo.design import ARMS, MAIN, STAGE1, Arm
from jaxvlm.config import FilePath
from jaxvlm.data.negatives import EASY, GENTLE, Kind
from jaxvlm.models.remat import Remat
from jaxvlm.sharding import MeshConfig
from jaxvlm.study import checks, probing
from jaxvlm.study import config as settings
from jaxvlm.study.config import Scale, StageConfig, setting
from jaxvlm.study.probing import ProbeConfig
from jaxvlm.train.assemble import Reference
from jaxvlm.train.optimizer import OptimizerConfig


class Dataset(enum.Enum):
  """What the study runs on."""

  SCENES = "scenes"
  COCO = "coco"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatesConfig:
  """The learning rate of every loss: of one grid, chosen on tuning seeds."""

  sft: float = 3e-4
  sft_c: float = 3e-4
  sft_hard: float = 3e-4
  dpo: float = 1e-4
  focal_dpo: float = 1e-4
  cw_dpo: float = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstrainedConfig(StageConfig):
  """Stage 1, whether constrained (SFT-C) or not."""

  floor: float = setting("C of SFT-C: NLL of negatives, nats per token", 3.0)
  weight: float = setting("λ of SFT-C", 0.3)
  ascent: float = setting("ρ of λ's dual ascent under a hard constraint", 0.02)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreferenceConfig(StageConfig):
  """Stage 2."""

  beta: float = setting("β of all losses", 0.1)
  gamma: float = setting("γ of Focal-DPO", 2.0)
  floor: float = setting("ℓ_floor of CW-DPO, nats per token", -3.0)
  tau: float = setting("τ of CW-DPO, nats per token", 1.0)
  constant_weight: float = setting("replaces w_c; negative: computed", -1.0)
  easier_than: float = setting(
    "negatives below this mean log-probability are left out of CW-DPO, nats"
    " per token; 0: none is",
    0.0,
  )
  sampled: float = setting(
    "share of negatives that the policy has just written itself", 0.0
  )
  rate_scale: float = setting("times the rate of the loss", 1.0)
  draws: int = setting("captions of which a wrong one is taken as negative", 2)

  @property
  def reference(self) -> Reference:
    """The policy after Stage 1."""
    return Reference.ENTRY


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(settings.DataConfig):
  """Pictures and their static shapes."""

  pictures: int = setting("pictures of training; a quarter for Stage 2", 3200)
  fresh: float = setting(
    "share of Stage 2's chosen captions in wordings that Stage 1 never saw;"
    " unused by COCO",
    0.5,
  )
  split: str = setting("split of COCO that is trained on", "train")
  negatives: tuple[Kind, ...] = setting(
    "kinds of Stage 2's negatives, equally likely", GENTLE + EASY
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig(settings.EvaluationConfig):
  """How a policy is measured, and on how many pictures."""

  pictures: int = setting("pictures to caption", 120)
  split: str = setting(
    "their split; tuning is for choosing rates", "validation"
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig(settings.StudyConfig):
  """The whole study: two kinds of Stage 1, then the losses of Stage 2."""

  stage1: ConstrainedConfig
  stage2: PreferenceConfig
  dataset: Dataset = Dataset.SCENES
  data_dir: FilePath = setting("folder of COCO", "")
  rates: RatesConfig = field(default_factory=RatesConfig)
  probes: ProbeConfig = field(default_factory=ProbeConfig)
  data: DataConfig = field(default_factory=DataConfig)
  evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
  arms: tuple[str, ...] = setting("arms to run", tuple(MAIN))

  def first(self, name: str) -> ConstrainedConfig:
    """Returns the settings of a Stage 1 by its folder."""
    return _at(self.stage1, getattr(self.rates, name))

  def second(self, arm: Arm) -> PreferenceConfig:
    """Returns the settings of an arm's Stage 2."""
    stage = replace(self.stage2, **arm.changes)
    rate = getattr(self.rates, arm.loss.value)
    return _at(stage, stage.rate_scale * rate)


def _at(stage, rate: float):
  return replace(stage, optimizer=replace(stage.optimizer, peak_lr=rate))


def laptop() -> StudyConfig:
  """Half an hour on two cores."""
  optimizer = OptimizerConfig(warmup_steps=5, b2=0.98)
  return StudyConfig(
    stage1=ConstrainedConfig(
      steps=100, prompts=24, evaluate_every=50, optimizer=optimizer
    ),
    stage2=PreferenceConfig(steps=80, prompts=24, group=2, optimizer=optimizer),
    data=DataConfig(max_new_tokens=24),
    evaluation=EvaluationConfig(every=20, samples=4, prompts=40),
    probes=ProbeConfig(problems=24, every=20),
  )


def quick(config: StudyConfig) -> StudyConfig:
  """Returns the three-minute version: fewer steps and arms."""
  return replace(
    config,
    stage1=replace(config.stage1, steps=20, evaluate_every=20),
    stage2=replace(config.stage2, steps=20),
    data=replace(config.data, pictures=min(config.data.pictures, 640)),
    evaluation=replace(
      config.evaluation, every=20, pictures=40, samples=2, prompts=40
    ),
    probes=replace(config.probes, every=10),
    arms=("sft_c_dpo", "sft_c_cw_dpo"),
  )


def colab() -> StudyConfig:
  """The 3B model with adapters on one accelerator; the scenes, larger."""
  adapters = OptimizerConfig(warmup_steps=5)
  full = laptop()
  return replace(
    full,
    stage1=replace(
      full.stage1, prompts=8, group=2, micro_batches=8, optimizer=adapters
    ),
    stage2=replace(full.stage2, prompts=8, micro_batches=8, optimizer=adapters),
    rates=RatesConfig(
      sft=2e-5, sft_c=2e-5, sft_hard=2e-5, dpo=5e-6, focal_dpo=5e-6, cw_dpo=5e-6
    ),
    data=DataConfig(prompt_tokens=(64,), patch_slots=(64,), max_new_tokens=48),
    evaluation=EvaluationConfig(every=40, samples=4, prompts=4),
    probes=ProbeConfig(problems=8, every=20),
    arms=("sft_c_dpo", "sft_c_cw_dpo"),
    lora_rank=64,
    lora_alpha=128.0,
    freeze_vision=True,
    bfloat16=True,
    scan_layers=True,
    remat=Remat.FULL,
  )


def pod() -> StudyConfig:
  """The paper's model, 72B with adapters; lengths and batches are ours."""
  full = colab()
  return replace(
    full,
    stage1=replace(full.stage1, steps=600, prompts=64, micro_batches=2),
    stage2=replace(full.stage2, steps=200, prompts=64, micro_batches=2),
    dataset=Dataset.COCO,
    data=DataConfig(
      pictures=100_000,
      min_pixels=56 * 56,
      max_pixels=448 * 448,
      # The last holds every shape of picture (`images.largest`).
      prompt_tokens=(320, 512),
      patch_slots=(1152, 2048),
      max_new_tokens=64,
      workers=4,
    ),
    evaluation=EvaluationConfig(
      every=100, pictures=500, samples=4, prompts=32, split="val"
    ),
    probes=ProbeConfig(problems=64, every=50),
    # λ of a hard constraint belongs to a whole batch; here batches are cut.
    arms=tuple(arm for arm in ARMS if arm != "hard"),
    mesh=MeshConfig(tensor=4),
  )


SCALES = {Scale.LAPTOP: laptop, Scale.COLAB: colab, Scale.POD: pod}


def check(config: StudyConfig) -> None:
  """Raises ValueError for settings that cannot run; reads no file."""
  checks.check(config, ARMS)
  checks.at_least(4, config.data, "pictures", of="data")
  checks.at_least(1, config.evaluation, "pictures", of="evaluation")
  most = max(config.stage1.prompts, config.stage2.prompts)
  probing.check(config.probes, most)
  rates = dataclasses.asdict(config.rates)
  for name, rate in (rates | {"scale": config.stage2.rate_scale}).items():
    if rate <= 0:
      section = "stage2.rate_" if name == "scale" else "rates."
      raise ValueError(f"{section}{name} is {rate}, expected a positive number")
  if config.dataset is Dataset.COCO:
    checks.check_folders(data_dir=config.data_dir)
    if not config.data_dir:
      raise ValueError("data_dir is empty, expected the folder of COCO")
  elif config.evaluation.split not in ("validation", "tuning"):
    raise ValueError(
      f"evaluation.split is {config.evaluation.split!r}, expected validation"
      " or tuning: what is trained on measures nothing"
    )
  if not 0 <= config.data.fresh <= 1:
    raise ValueError(f"data.fresh is {config.data.fresh}, expected 0 to 1")
  if config.stage1.ascent <= 0:
    raise ValueError(
      f"stage1.ascent is {config.stage1.ascent}, expected a positive number"
    )
  if "sft_hard" in uses(config) and config.stage1.micro_batches > 1:
    raise ValueError(
      f"stage1.micro_batches is {config.stage1.micro_batches}, expected 1 for a"
      " hard constraint, whose multiplier belongs to a whole batch"
    )
  if not 0 <= config.stage2.sampled <= 1:
    raise ValueError(
      f"stage2.sampled is {config.stage2.sampled}, expected 0 to 1"
    )
  checks.at_least(1, config.stage2, "draws", of="stage2")
  if config.stage2.group != 2:
    raise ValueError(
      f"stage2.group is {config.stage2.group}, expected 2: a pair is a chosen"
      " and a rejected caption"
    )


def uses(config: StudyConfig) -> tuple[str, ...]:
  """Returns the kinds of Stage 1 that the arms begin with, in order."""
  wanted = {ARMS[arm].stage1 for arm in config.arms}
  return tuple(name for name in STAGE1 if name in wanted)
