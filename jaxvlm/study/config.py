"""Settings that studies are made of.

A paper's settings extend `StudyConfig` by its stages and by what only it has.
Every field is a flag; defaults of shapes fit the generated world.
"""

import dataclasses
import enum

from jaxvlm.config import FilePath, setting
from jaxvlm.models.remat import Remat
from jaxvlm.sharding import MeshConfig
from jaxvlm.train.assemble import Form, Reference
from jaxvlm.train.monitor import WATCHING, MonitorConfig
from jaxvlm.train.optimizer import OptimizerConfig


class Scale(enum.Enum):
  """Where a study runs."""

  LAPTOP = "laptop"
  COLAB = "colab"
  POD = "pod"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
  """Static shapes of problems, and what is tolerated of them."""

  min_pixels: int = setting("smallest picture, pixels", 56 * 56)
  max_pixels: int = setting("largest picture, pixels", 112 * 112)
  prompt_tokens: tuple[int, ...] = setting(
    "prompt length of each bucket", (56,)
  )
  patch_slots: tuple[int, ...] = setting("patch slots of each bucket", (64,))
  max_new_tokens: int = setting("longest completion, tokens", 44)
  max_dropped: float = setting("share of unusable rows that ends the run", 0.01)
  workers: int = setting("processes that prepare batches", 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
  """One training stage."""

  steps: int = dataclasses.field(
    metadata={"help": "steps: batches of rows, or rollouts of RL"}
  )
  prompts: int = dataclasses.field(metadata={"help": "prompts in a step"})
  group: int = setting("sampled completions of a prompt", 1)
  evaluate_every: int = setting("steps; 0 takes evaluation.every", 0)
  micro_batches: int = setting(
    "parts of a minibatch, whose gradients add up to one optimizer step", 1
  )
  temperature: float = setting("of sampled completions and of the loss", 1.0)
  optimizer: OptimizerConfig = dataclasses.field(
    default_factory=OptimizerConfig
  )

  @property
  def optimizer_steps(self) -> int:
    """Optimizer steps on one batch."""
    return 1

  @property
  def reference(self) -> Reference:
    """What the stage is held to."""
    return Reference.NONE

  @property
  def watching(self) -> MonitorConfig:
    """What is a sign that the stage fails."""
    return WATCHING

  @property
  def parts(self) -> int:
    """Into how many equal parts a batch is cut."""
    return self.optimizer_steps * self.micro_batches


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFTConfig(StageConfig):
  """A stage of SFT."""

  label_smoothing: float = setting(
    "share of the target that all tokens get alike", 0.0
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFTCConfig(StageConfig):
  """A stage of SFT with gentle negatives; neither number is published."""

  floor: float = setting("C: the negatives' NLL stays above, nats a token", 3.0)
  weight: float = setting("λ: weight of what is below it", 0.3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPOConfig(StageConfig):
  """A stage of DPO, held to the policy that training began from."""

  beta: float = setting("β: how strongly it is held", 0.1)

  @property
  def reference(self) -> Reference:
    """With adapters the model without them, else a copy of the entry."""
    return Reference.BASE


@dataclasses.dataclass(frozen=True, kw_only=True)
class CWDPOConfig(DPOConfig):
  """A stage of DPO with cooled negatives; no number is published."""

  floor: float = setting(
    "ℓ_floor: mean log-probability at which a negative counts half, nats", -3.0
  )
  tau: float = setting("τ: how softly it is cooled around it, nats", 1.0)
  differentiate_weight: bool = setting("let gradient through the weight", False)
  easier_than: float | None = setting(
    "leave out pairs whose negative has a mean log-probability below, nats",
    None,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FocalDPOConfig(DPOConfig):
  """A stage of DPO under the focal loss."""

  gamma: float = setting("γ: how much less easy pairs count", 2.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotsConfig:
  """Completions under way at once (`jaxvlm.rollout.refill`)."""

  rows: int = setting("prompts served at once; 0: all, in one wave", 0)
  width: int = setting("completions of a prompt at once", 4)
  segment: int = setting("steps between refills", 32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRPOConfig(StageConfig):
  """A stage of GRPO."""

  clip_low: float = setting("ε⁻: ratios below 1 − ε⁻ are clipped", 0.2)
  clip_high: float = setting("ε⁺: ratios above 1 + ε⁺ are clipped", 0.2)
  kl_coef: float = setting("weight of the KL to the entering policy", 0.0)
  normalize_std: bool = setting(
    "advantages are divided by their group's standard deviation", True
  )
  drop_degenerate: bool = setting(
    "train on groups with different rewards alone (DAPO's dynamic sampling,"
    " without drawing others in their place)",
    False,
  )
  mask_overlong: bool = setting(
    "do not train on completions that were cut off (DAPO)", False
  )
  minibatches: int = setting(
    "optimizer steps on one rollout, on equal parts of it in turn", 1
  )
  slots: SlotsConfig = dataclasses.field(default_factory=SlotsConfig)
  monitor: MonitorConfig = dataclasses.field(default_factory=MonitorConfig)
  carry: int = setting(
    "prompts under way beyond those of a step; what is unfinished when the"
    " step's are complete goes on in the next one; needs slots.rows. The first"
    " steps train on shorter completions, and what is under way at the end is"
    " not trained on",
    0,
  )

  @property
  def watching(self) -> MonitorConfig:
    """What is a sign that RL fails."""
    return self.monitor

  @property
  def optimizer_steps(self) -> int:
    """Optimizer steps on one rollout."""
    return self.minibatches

  @property
  def reference(self) -> Reference:
    """The policy that enters the stage, where a KL term counts from it."""
    return Reference.ENTRY if self.kl_coef else Reference.NONE


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
  """How a policy is measured."""

  every: int = setting("steps between evaluations", 20)
  samples: int = setting("samples per problem (pass@k up to this)", 16)
  prompts: int = setting("problems in a batch", 30)
  temperature: float = setting("sampling temperature", 1.0)
  endpoint_evaluations: int = setting(
    "the endpoint is the mean of so many last evaluations", 1
  )
  max_missing: float = setting(
    "share of the problems asked for that may be absent or unusable", 0.0
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
  """What every study that trains has; each stage is a field of a paper's."""

  model_dir: FilePath = setting(
    "student's folder; empty: shipped nano-base", ""
  )
  data: DataConfig = dataclasses.field(default_factory=DataConfig)
  evaluation: EvaluationConfig = dataclasses.field(
    default_factory=EvaluationConfig
  )
  arms: tuple[str, ...] = setting("arms to run", ())
  seeds: int = setting("repeat with seeds 0 … n - 1 and pool", 1)
  first_seed: int = setting("seed of the first repetition", 0)
  checkpoint_every: int = setting("steps between checkpoints", 20)
  keep_checkpoints: int = setting("how many of the newest stay", 2)
  keep_best: int = setting("how many of the most accurate stay besides", 0)
  grad_norm_depth: int = setting(
    "log gradient norms of modules so many names deep; 0: none", 0
  )
  mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
  lora_rank: int = setting("train adapters of this rank only; 0: weights", 0)
  lora_alpha: float = setting("adapters count by lora_alpha / lora_rank", 32.0)
  freeze_vision: bool = setting("leave the vision tower as it is", False)
  bfloat16: bool = setting("compute in bfloat16", False)
  scan_layers: bool = setting("scan over layers (large models)", False)
  remat: Remat = setting(
    "what a layer computes again instead of keeping it", Remat.NONE
  )

  @property
  def form(self) -> Form:
    """In which form the student is trained, kept and multiplied."""
    return Form(
      lora_rank=self.lora_rank,
      lora_alpha=self.lora_alpha,
      freeze_vision=self.freeze_vision,
      bfloat16=self.bfloat16,
      scan=self.scan_layers,
      remat=self.remat,
    )

  @property
  def stages(self) -> dict[str, StageConfig]:
    """Name -> settings of every stage, in the order of the fields."""
    named = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
    }
    return {k: v for k, v in named.items() if isinstance(v, StageConfig)}
