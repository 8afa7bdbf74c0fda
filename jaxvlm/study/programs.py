"""What a study compiles: train steps and samplers, and the trees they take.

Programs are built once per process and shared by all arms and seeds, so that
nothing is compiled twice; nothing is compiled before its first call.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvlm import models
from jaxvlm.data.chat import Chat
from jaxvlm.models.lora import init_lora
from jaxvlm.models.quantize import quantize_int8
from jaxvlm.rollout import Generate, Slots, make_generate, make_refill
from jaxvlm.sampling import Sampling
from jaxvlm.sharding import partition
from jaxvlm.study.config import GRPOConfig, StageConfig, StudyConfig
from jaxvlm.study.folders import ModelFolder
from jaxvlm.train import freeze, objectives
from jaxvlm.train.objectives import Objective
from jaxvlm.train.optimizer import (
  OptimizerConfig,
  make_optimizer,
  master_params,
)
from jaxvlm.train.step import TrainState, init_state, make_train_step
from jaxvlm.typing import Model, Params, PyTree

# (state, frozen trees, inputs) -> (state, metrics)
TrainStep = Callable[[TrainState, PyTree, PyTree], tuple[TrainState, dict]]


def compute_type(config: StudyConfig) -> Any:
  """Returns the type of products, and of all that is never trained."""
  return jnp.bfloat16 if config.bfloat16 else jnp.float32


def functions(model: Any, config: StudyConfig) -> Model:
  """Returns the functions of a model by its configuration."""
  bound = models.bind(model, dtype=compute_type(config), remat=config.remat)
  return bound if config.scan_layers else unrolled(bound)


def unrolled(model: Model) -> Model:
  """Returns a model without scans over layers: they pay for large ones."""
  return model._replace(
    forward=lambda p, batch: model.forward(model.unstack(p), batch)
  )


def load_student(
  config: StudyConfig, mesh: jax.sharding.Mesh, folder: ModelFolder
) -> Params:
  """Returns the policy that training begins with, adapters included."""
  # The base of adapters is kept in the compute type: it is never trained.
  stored = compute_type(config) if config.lora_rank else jnp.float32
  _, params = models.load_sharded(folder.path, mesh, stored)
  return with_adapters(config, mesh, folder.config, params)


def with_adapters(
  config: StudyConfig, mesh: jax.sharding.Mesh, model: Any, params: Params
) -> Params:
  """Returns parameters with the adapters that the settings ask for."""
  if not config.lora_rank:
    return params
  made = _on_mesh(lambda tree: adapters(config, tree), mesh, model, params)
  return freeze.merge_params(params, made)


def adapters(config: StudyConfig, params: Params) -> Params:
  """Returns the student's adapters, a part of the base: alike for all seeds."""
  return init_lora(
    params,
    jax.random.key(0),
    rank=config.lora_rank,
    alpha=config.lora_alpha,
    pattern="model/" if config.freeze_vision else "",
  )


def load_frozen(
  config: StudyConfig,
  mesh: jax.sharding.Mesh,
  folder: ModelFolder,
  *,
  int8: bool = False,
) -> Params:
  """Returns a model that is never trained, such as a teacher."""
  _, params = models.load_sharded(folder.path, mesh, compute_type(config))
  return in_8_bits(mesh, folder.config, params) if int8 else params


def in_8_bits(mesh: jax.sharding.Mesh, model: Any, params: Params) -> Params:
  """Returns a model's parameters with all matrices quantized."""
  return _on_mesh(lambda tree: quantize_int8(tree, ""), mesh, model, params)


def _on_mesh(
  function: Callable[[Params], Params],
  mesh: jax.sharding.Mesh,
  model: Any,
  params: Params,
) -> Params:
  shapes = jax.eval_shape(function, params)
  places = partition(mesh, shapes, models.partition_rules(model))
  return jax.jit(function, out_shardings=places)(params)


def reference(config: StudyConfig, entry: Params) -> Params:
  """Returns the policy that enters a stage, as far as the stage trains it.

  From this one a KL term counts. With adapters it has those of earlier stages:
  their bare base would pull every arm back over its warm start.
  """
  if config.frozen:
    entry, _ = freeze.split_params(entry, config.frozen)
  return freeze.stored_as(entry, compute_type(config))


def make_steps(
  config: StudyConfig, model: Any
) -> Callable[[Objective, StageConfig], TrainStep]:
  """Returns what builds a stage's train step of its objective.

  Stages that differ in their length alone share a program.

  Args:
    config: settings.
    model: configuration of the student.
  """

  @functools.cache
  def make(
    objective: Objective,
    optimizer: OptimizerConfig,
    micro_batches: int,
    minibatches: int,
  ) -> TrainStep:
    return make_train_step(
      freeze.with_frozen(objective) if config.frozen else objective,
      objectives.count,
      make_optimizer(optimizer),
      minibatches=minibatches,
      micro_batches=micro_batches,
      rules=models.partition_rules(model),
      norm_depth=config.grad_norm_depth,
    )

  return lambda objective, stage: make(
    objective, stage.optimizer, stage.micro_batches, stage.optimizer_steps
  )


def grpo(model: Model, stage: GRPOConfig, vocab_size: int) -> Objective:
  """Returns the objective of a stage of GRPO."""
  return objectives.grpo(
    model,
    temperature=stage.temperature,
    clip_low=stage.clip_low,
    clip_high=stage.clip_high,
    kl_coef=stage.kl_coef,
    vocab_size=vocab_size,
  )


def begin(
  stage: StageConfig, model: Any, params: Params, carry: PyTree
) -> TrainState:
  """Returns the state before a stage's first step."""
  optimizer = make_optimizer(stage.optimizer)
  state = init_state(
    master_params(stage.optimizer, params),
    optimizer,
    rules=models.partition_rules(model),
  )
  return state._replace(carry=carry)


def make_sampler(
  config: StudyConfig,
  chat: Chat,
  model: Model,
  *,
  group: int,
  temperature: float,
) -> Generate:
  """Returns a jitted sampler of `group` completions per prompt."""
  options = _sampling(config, chat, group, temperature)
  return make_generate(model, **options)


def make_evaluator(config: StudyConfig, chat: Chat, model: Model) -> Generate:
  """Returns the sampler of a model's evaluations."""
  e = config.evaluation
  return make_sampler(
    config, chat, model, group=e.samples, temperature=e.temperature
  )


def make_rollout(
  config: StudyConfig, chat: Chat, model: Model, stage: GRPOConfig
) -> Generate:
  """Returns the sampler of a stage of GRPO, with slots where it has them."""
  options = _sampling(config, chat, stage.group, stage.temperature)
  if not stage.slots.rows:
    return make_generate(model, **options)
  slots = Slots(**dataclasses.asdict(stage.slots))
  enough = stage.prompts if stage.carry else None
  return make_refill(model, slots, enough=enough, **options)


def _sampling(
  config: StudyConfig, chat: Chat, group: int, temperature: float
) -> dict[str, Any]:
  return {
    "group": group,
    "sampling": Sampling(temperature),
    "max_new_tokens": config.data.max_new_tokens,
    "eos_ids": chat.eos_ids,
    "pad_id": chat.pad_id,
    "vocab_size": chat.vocab_size,
  }
