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
from jaxvlm.rollout import Generate, Slots, make_generate, make_refill
from jaxvlm.sampling import Sampling
from jaxvlm.sharding import partition
from jaxvlm.study.config import GRPOConfig, StudyConfig
from jaxvlm.study.folders import ModelFolder
from jaxvlm.train import assemble, freeze, objectives
from jaxvlm.train.assemble import Assembly, Form
from jaxvlm.train.objectives import Objective
from jaxvlm.typing import Model, Params


def load_student(
  config: StudyConfig, mesh: jax.sharding.Mesh, folder: ModelFolder
) -> Params:
  """Returns the policy that training begins with, adapters included."""
  form = config.form
  # The base of adapters is kept in the compute type: it is never trained.
  stored = form.compute_type if form.lora_rank else jnp.float32
  _, params = models.load_sharded(folder.path, mesh, stored)
  if not form.lora_rank:
    return params
  # Adapters alone are made inside a program: it would copy the base.
  made = _on_mesh(
    lambda tree: assemble.adapters(form, tree), mesh, folder.config, params
  )
  return freeze.merge_params(params, made)


def load_frozen(
  form: Form, mesh: jax.sharding.Mesh, folder: ModelFolder
) -> Params:
  """Returns a model that is never trained, such as a teacher."""
  _, params = models.load_sharded(folder.path, mesh, form.compute_type)
  if not form.int8:
    return params
  return _on_mesh(
    lambda tree: assemble.stored(form, tree), mesh, folder.config, params
  )


def _on_mesh(
  function: Callable[[Params], Params],
  mesh: jax.sharding.Mesh,
  model: Any,
  params: Params,
) -> Params:
  shapes = jax.eval_shape(function, params)
  places = partition(mesh, shapes, models.partition_rules(model))
  return jax.jit(function, out_shardings=places)(params)


def make_stages(config: StudyConfig, model: Any) -> Callable[..., Assembly]:
  """Returns what assembles a stage from its objective, settings and totals.

  Stages that differ in their length alone share a program. The totals of all
  objectives but SFT-C's are `objectives.count`.

  Args:
    config: settings.
    model: configuration of the student.
  """

  @functools.cache
  def make(objective: Objective, totals: Any, **settings: Any) -> Assembly:
    return assemble.assemble(
      objective,
      totals,
      config.form,
      rules=models.partition_rules(model),
      norm_depth=config.grad_norm_depth,
      **settings,
    )

  return lambda objective, stage, totals=objectives.count: make(
    objective,
    totals,
    optimizer=stage.optimizer,
    reference=stage.reference,
    minibatches=stage.optimizer_steps,
    micro_batches=stage.micro_batches,
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
