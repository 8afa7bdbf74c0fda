"""The study's programs: train steps and samplers.

They are built once per process and shared by all arms and seeds, so nothing
is compiled twice.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxvlm import models
from jaxvlm.data.chat import Chat
from jaxvlm.models.lora import init_lora
from jaxvlm.rollout import Generate, Slots, make_generate, make_refill
from jaxvlm.sampling import Sampling
from jaxvlm.sharding import Rules
from jaxvlm.study.config import (
  GRPOConfig,
  StageConfig,
  StudyConfig,
)
from jaxvlm.train import freeze, objectives
from jaxvlm.train.optimizer import OptimizerConfig, make_optimizer
from jaxvlm.train.step import make_train_step
from jaxvlm.typing import Model, Params


@dataclasses.dataclass(frozen=True)
class Programs:
  """Compiled functions of the study.

  Attributes:
    steps: stage name -> jitted train step.
    rollouts: stage name -> jitted sampler.
    evaluate: jitted sampler of the evaluation.
    evaluate_teacher: the same for the teacher's architecture.
    rules: how the student's parameters are cut.
  """

  steps: Mapping[str, Callable]
  rollouts: Mapping[str, Generate]
  evaluate: Generate
  evaluate_teacher: Generate
  rules: Rules


def compute_type(study: StudyConfig) -> Any:
  """Returns the type of products, and of all that is never trained."""
  return jnp.bfloat16 if study.bfloat16 else jnp.float32


def functions(config: Any, study: StudyConfig) -> Model:
  """Returns the model's functions, unrolled where a scan does not pay."""
  bound = models.bind(config, dtype=compute_type(study), remat=study.remat)
  if study.scan_layers:
    return bound
  return bound._replace(forward=lambda p, b: bound.forward(bound.unstack(p), b))


def adapters(study: StudyConfig, params: Params) -> Params:
  """Returns the student's adapters, a part of the base: alike for all seeds."""
  return init_lora(
    params,
    jax.random.key(0),
    rank=study.lora_rank,
    alpha=study.lora_alpha,
    pattern="model/" if study.freeze_vision else "",
  )


def make_programs(
  study: StudyConfig, student: Any, teacher: Any, chat: Chat
) -> Programs:
  """Builds every program; nothing is compiled before its first call."""
  model, teach = functions(student, study), functions(teacher, study)
  vocab = {"vocab_size": chat.vocab_size}
  rules = models.partition_rules(student)

  def options(group: int, temperature: float) -> dict[str, Any]:
    return {
      "group": group,
      "sampling": Sampling(temperature),
      "max_new_tokens": study.data.max_new_tokens,
      "eos_ids": chat.eos_ids,
      "pad_id": chat.pad_id,
      **vocab,
    }

  def sampler(functions: Model, group: int, temperature: float) -> Generate:
    return make_generate(functions, **options(group, temperature))

  def reinforced(stage: GRPOConfig) -> Generate:
    settings = options(stage.group, stage.temperature)
    if not stage.slots.rows:
      return make_generate(model, **settings)
    slots = Slots(**dataclasses.asdict(stage.slots))
    enough = stage.prompts if stage.carry else None
    return make_refill(model, slots, enough=enough, **settings)

  @functools.cache  # stages that differ in length only share a program
  def step(
    objective: objectives.Objective,
    optimizer: OptimizerConfig,
    micro_batches: int,
    minibatches: int = 1,
  ) -> Callable:
    return make_train_step(
      freeze.with_frozen(objective) if study.frozen else objective,
      objectives.count,
      make_optimizer(optimizer),
      minibatches=minibatches,
      micro_batches=micro_batches,
      rules=rules,
      norm_depth=study.grad_norm_depth,
    )

  sft = objectives.sft(model, **vocab)
  opd = objectives.opd(model, teach, temperature=study.opd.temperature, **vocab)
  grpo = objectives.grpo(
    model,
    temperature=study.grpo.temperature,
    clip_low=study.grpo.clip_low,
    clip_high=study.grpo.clip_high,
    kl_coef=study.grpo.kl_coef,
    **vocab,
  )
  kinds = {"sft_early": sft, "sft_over": sft, "opd": opd, "grpo": grpo}
  steps = {}
  for name, objective in kinds.items():
    stage: StageConfig = getattr(study, name)
    steps[name] = step(
      objective,
      stage.optimizer,
      stage.micro_batches,
      stage.minibatches if name == "grpo" else 1,
    )
  e = study.evaluation
  return Programs(
    steps=steps,
    rollouts={
      "opd": sampler(model, study.opd.group, study.opd.temperature),
      "grpo": reinforced(study.grpo),
    },
    evaluate=sampler(model, e.samples, e.temperature),
    evaluate_teacher=sampler(teach, e.samples, e.temperature),
    rules=rules,
  )
