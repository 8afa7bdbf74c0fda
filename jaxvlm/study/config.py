"""Settings that studies are made of."""

import dataclasses
import enum
from dataclasses import field

from jaxvlm.config import FilePath
from jaxvlm.models.remat import Remat
from jaxvlm.sharding import MeshConfig
from jaxvlm.train.optimizer import OptimizerConfig

ARMS = ("base", "sft_early", "sft_over", "opd")


class Scale(enum.Enum):
  """Where the study runs."""

  LAPTOP = "laptop"
  COLAB = "colab"
  POD = "pod"


class Dataset(enum.Enum):
  """What it runs on."""

  WORLD = "world"
  GEOMETRY3K = "geometry3k"


def _help(text: str, default):
  return field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Problems and their static shapes."""

  traces: int = _help("worked solutions for SFT (ours)", 240)
  trace_style: str = _help("the one style of the world's traces", "add")
  train_problems: int = _help("problems for OPD and GRPO", 4096)
  min_pixels: int = _help("smallest picture, pixels", 56 * 56)
  max_pixels: int = _help("largest picture, pixels", 112 * 112)
  prompt_tokens: tuple[int, ...] = _help("prompt length of each bucket", (56,))
  patch_slots: tuple[int, ...] = _help("patch slots of each bucket", (64,))
  max_new_tokens: int = _help("longest completion, tokens", 44)
  max_dropped: float = _help("share of unusable rows that ends the run", 0.01)
  workers: int = _help("processes that prepare batches", 0)


@dataclasses.dataclass(frozen=True)
class StageConfig:
  """One training stage; every value is ours unless its comment says more."""

  steps: int
  prompts: int
  group: int
  evaluate_every: int = _help("steps; 0 takes evaluation.every", 0)
  micro_batches: int = _help(
    "parts of a minibatch, whose gradients add up to one optimizer step", 1
  )
  temperature: float = 1.0
  optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


@dataclasses.dataclass(frozen=True)
class SlotsConfig:
  """Completions under way at once (`jaxvlm.rollout.refill`)."""

  rows: int = _help("prompts served at once; 0: all, in one wave", 0)
  width: int = _help("completions of a prompt at once", 4)
  segment: int = _help("steps between refills", 32)


@dataclasses.dataclass(frozen=True)
class GRPOConfig(StageConfig):
  """Stage 2, the same from every warm start."""

  clip_low: float = 0.2
  clip_high: float = 0.2
  kl_coef: float = 0.0
  normalize_std: bool = True
  minibatches: int = _help(
    "optimizer steps on one rollout, on equal parts of it in turn", 1
  )
  slots: SlotsConfig = field(default_factory=SlotsConfig)
  carry: int = _help(
    "prompts under way beyond those of a step; what is unfinished when the"
    " step's are complete goes on in the next one; needs slots.rows. The first"
    " steps train on shorter completions, and what is under way at the end is"
    " not trained on",
    0,
  )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """How a policy is measured."""

  every: int = _help("steps between evaluations", 20)
  in_domain: int = _help("in-domain problems", 210)
  out_of_domain: int = _help("out-of-domain problems", 90)
  samples: int = _help("samples per problem (pass@k up to this)", 16)
  prompts: int = _help("problems in a batch", 30)
  temperature: float = _help("sampling temperature", 1.0)
  endpoint_evaluations: int = _help(
    "the RL endpoint is the mean of so many last evaluations", 1
  )
  split: str = _help("split that is measured; unused by the world", "test")
  max_missing: float = _help(
    "share of the problems asked for that may be absent or unusable", 0.0
  )


@dataclasses.dataclass(frozen=True)
class StudyConfig:
  """The whole study."""

  sft_early: StageConfig
  sft_over: StageConfig
  opd: StageConfig
  grpo: GRPOConfig
  dataset: Dataset = Dataset.WORLD
  data_dir: FilePath = field(
    default="",
    metadata={"help": "folder of the data set; unused by the world"},
  )
  model_dir: FilePath = field(
    default="",
    metadata={"help": "student's folder; empty: shipped nano-base"},
  )
  teacher_dir: FilePath = field(
    default="",
    metadata={"help": "teacher's folder; empty: shipped nano-teacher"},
  )
  data: DataConfig = field(default_factory=DataConfig)
  evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
  arms: tuple[str, ...] = _help(
    "warm starts to run", ("base", "sft_early", "sft_over", "opd")
  )
  seeds: int = _help("repeat with seeds 0 … n - 1 and pool", 1)
  first_seed: int = _help("seed of the first repetition", 0)
  checkpoint_every: int = _help("steps between checkpoints", 20)
  keep_checkpoints: int = _help("how many of the newest stay", 2)
  grad_norm_depth: int = _help(
    "log gradient norms of modules so many names deep; 0: none", 0
  )
  keep_best: int = _help("how many of the most accurate stay besides", 0)
  mesh: MeshConfig = field(default_factory=MeshConfig)
  lora_rank: int = _help("train adapters of this rank only; 0: weights", 0)
  lora_alpha: float = _help("adapters count by lora_alpha / lora_rank", 32.0)
  freeze_vision: bool = _help("leave the vision tower as it is", False)
  int8_teacher: bool = _help("the teacher's matrices in 8 bits", False)
  bfloat16: bool = _help("compute in bfloat16", False)
  scan_layers: bool = _help("scan over layers (large models)", False)
  remat: Remat = Remat.NONE

  @property
  def frozen(self) -> str:
    """Regular expression of the parameters that stay; empty: none."""
    if self.lora_rank:
      return "(?!.*/lora_(?:a|b|scale)$)"  # all but the adapters
    return "visual/" if self.freeze_vision else ""
