"""What is to be planned: one frozen dataclass, checked before any compiler."""

import dataclasses
import enum
import pathlib
from typing import Any

from jaxvlm import models
from jaxvlm.models.remat import Remat
from jaxvlm.sharding import MeshConfig
from jaxvlm.train.assemble import Form, Reference
from jaxvlm.train.optimizer import OptimizerConfig

# Tokens of the Qwen2.5 tokenizer, special ones included; the heads of the
# published models are padded beyond, each differently. A preset has no
# tokenizer: a narrower head (of another family) counts whole.
TOKENIZER_SIZE = 151_665


class Objective(enum.Enum):
  """What the program does; see `jaxvlm.plan.programs`."""

  SFT = enum.auto()
  SFT_C = enum.auto()
  OPD = enum.auto()
  DPO = enum.auto()
  CW_DPO = enum.auto()
  GRPO = enum.auto()
  ROLLOUT = enum.auto()


# Objectives that compare a chosen with a rejected completion.
PAIRS = (Objective.SFT_C, Objective.DPO, Objective.CW_DPO)
# Objectives that read a frozen copy of the policy from before training.
REFERENCED = (Objective.DPO, Objective.CW_DPO)
# Objectives that read completions of the policy itself.
ON_POLICY = (Objective.OPD, Objective.GRPO)


@dataclasses.dataclass(frozen=True)
class Setting:
  """One cell: a program, its sizes, and the slice to compile it for.

  Attributes:
    model: the policy.
    objective: what the step does.
    topology: such as `v5e:8x8`.
    mesh: devices along data, fsdp and tensor.
    teacher: the frozen model of OPD.
    prompts: N, in a whole step on the whole slice.
    group: G completions of each prompt.
    prompt_tokens: S.
    completion_tokens: T.
    patches: P image patch slots per prompt; 0 for text, and for models that
      read text only.
    micro_batches: parts that a step is cut into.
    optimizer: rule and precision of what it keeps; products are bfloat16.
    remat: what a layer keeps for its backward pass.
    lora_rank: rank of the adapters; 0 trains the matrices themselves.
    freeze_vision: train the decoder only (adapters: of the decoder only).
    int8_teacher: store the teacher, and the reference of `REFERENCED`, in 8
      bits; with adapters that is their base.
    kl_coef: of GRPO; above 0 a reference is read.
    scan: layers in a loop; False unrolls them (to compare).
  """

  model: Any
  objective: Objective
  topology: str
  mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
  teacher: Any = None
  prompts: int = 64
  group: int = 1
  prompt_tokens: int = 1024
  completion_tokens: int = 1024
  patches: int = 1024
  micro_batches: int = 1
  optimizer: OptimizerConfig = dataclasses.field(
    default_factory=OptimizerConfig
  )
  remat: Remat = Remat.FULL
  lora_rank: int = 0
  freeze_vision: bool = False
  int8_teacher: bool = False
  kl_coef: float = 0.0
  scan: bool = True

  def __post_init__(self):
    for name in (
      "prompts", "group", "prompt_tokens", "completion_tokens", "micro_batches"
    ):  # fmt: skip
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} is {getattr(self, name)}, expected at least 1"
        )
    _check(
      self.prompts % self.micro_batches == 0,
      f"prompts is {self.prompts}, expected a multiple of micro_batches"
      f" {self.micro_batches}",
    )
    self._check_patches()
    _check(
      (self.teacher is not None) == (self.objective is Objective.OPD),
      f"objective is {self.objective.name}"
      f" {'with' if self.teacher else 'without'} a teacher; opd needs one"
      " (--teacher) and nothing else reads one",
    )
    _check(
      self.objective not in PAIRS or self.group == 2,
      f"group is {self.group}, expected 2 for {self.objective.name}: the"
      " chosen and the rejected completion",
    )
    _check(
      self.kl_coef >= 0
      and (not self.kl_coef or self.objective is Objective.GRPO),
      f"kl_coef is {self.kl_coef} for {self.objective.name}, expected 0, or"
      " more for GRPO: nothing else reads it",
    )
    frozen = self.teacher or self.reads_reference or self.lora_rank
    _check(
      not self.int8_teacher or bool(frozen),
      f"int8_teacher for {self.objective.name} with nothing frozen; it needs a"
      " teacher, a reference or the base of adapters",
    )
    _check(
      not self.lora_rank or self.scan,
      f"lora_rank is {self.lora_rank} without scan, expected 0: adapters are"
      " made for stacked layers",
    )
    if self.objective is Objective.ROLLOUT:
      self._check_rollout()

  def _check_patches(self) -> None:
    for model in filter(None, (self.model, self.teacher)):
      _check(
        not self.patches or model.layout is not None,
        f"patches is {self.patches}, expected 0: {model.model_type} reads text"
        " only",
      )
    _check(
      not self.freeze_vision or self.model.layout is not None,
      f"freeze_vision is set, expected not: {self.model.model_type} has no"
      " vision tower",
    )
    if not self.patches:
      return
    window = self.model.layout.window_slots
    _check(
      self.patches >= 0 and self.patches % window == 0,
      f"patches is {self.patches}, expected a multiple of {window}, the slots"
      " of a window; 0 for prompts without a picture",
    )
    merged = self.patches // self.model.layout.merge**2
    _check(
      merged < self.prompt_tokens,
      f"prompt_tokens is {self.prompt_tokens}, expected more than the {merged}"
      f" tokens that {self.patches} patches become",
    )

  def _check_rollout(self) -> None:
    _check(
      not self.lora_rank,
      f"lora_rank is {self.lora_rank} in a rollout, expected 0: merge the"
      " adapters first",
    )
    _check(
      self.micro_batches == 1 and not self.freeze_vision,
      f"micro_batches is {self.micro_batches} and freeze_vision"
      f" {self.freeze_vision} in a rollout, expected 1 and False: it trains"
      " nothing",
    )

  @property
  def vocab_size(self) -> int:
    """Columns of the head that count: the tokenizer's tokens."""
    heads = [m.vocab_size for m in (self.model, self.teacher) if m]
    return min(TOKENIZER_SIZE, *heads)

  @property
  def form(self) -> Form:
    """How parameters are trained, kept and multiplied: in bfloat16."""
    return Form(
      lora_rank=self.lora_rank,
      freeze_vision=self.freeze_vision,
      int8=self.int8_teacher,
      bfloat16=True,
      scan=self.scan,
      remat=self.remat,
    )

  @property
  def reference(self) -> Reference:
    """What the objective compares the policy with."""
    if self.objective in REFERENCED:
      return Reference.BASE
    if self.objective is Objective.GRPO and self.kl_coef > 0:
      return Reference.ENTRY
    return Reference.NONE

  @property
  def reads_reference(self) -> bool:
    return self.reference is not Reference.NONE


def load_model(name: str) -> Any:
  """Returns a preset by its name, or the config.json of a folder.

  Raises:
    ValueError: neither.
  """
  if name.lower() in models.PRESETS:
    return models.PRESETS[name.lower()]
  if not (pathlib.Path(name) / "config.json").is_file():
    raise ValueError(
      f"model is {name!r}, expected one of {', '.join(models.PRESETS)}, or a"
      " folder with a config.json"
    )
  return models.read_config(name)


def _check(ok: bool, message: str) -> None:
  if not ok:
    raise ValueError(message)
