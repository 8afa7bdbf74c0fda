"""What can be known to be wrong before anything runs.

Rules live with their owners; here they are asked, and the setting is named.
"""

import contextlib
import pathlib
from collections.abc import Collection, Iterator
from typing import Any

import jax
import numpy as np

from jaxvlm import models
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, check_buckets
from jaxvlm.losses.grpo import check_settings
from jaxvlm.sampling import Sampling
from jaxvlm.sharding import check_mesh, check_rows
from jaxvlm.study.config import (
  DataConfig,
  EvaluationConfig,
  GRPOConfig,
  StageConfig,
  StudyConfig,
)
from jaxvlm.tokenstats import check_temperature
from jaxvlm.train import assemble, monitor, optimizer

_LEAST = float(np.finfo(np.float32).tiny)  # what float32 keeps apart from 0


def check(config: StudyConfig, arms: Collection[str]) -> None:
  """Raises ValueError for settings that cannot run, before anything does.

  Whatever a number can be judged by without a model, data or devices.

  Args:
    config: settings.
    arms: those that the study knows.
  """
  _check_arms(config.arms, arms)
  for name, stage in config.stages.items():
    if isinstance(stage, GRPOConfig):
      _check_grpo(name, stage)
    _check_stage(name, stage)
  _check_data(config.data)
  _check_evaluation(config.evaluation)
  last = config.first_seed + config.seeds - 1
  if not 0 <= config.first_seed <= last < 2**32:
    raise ValueError(
      f"first_seed is {config.first_seed} and seeds {config.seeds}, expected at"
      f" least one seed in 0 … {2**32 - 1}: a key is made of 32 bits, a larger"
      " seed would repeat a smaller one"
    )
  at_least(1, config, "checkpoint_every", "keep_checkpoints")
  at_least(0, config, "keep_best", "grad_norm_depth", "lora_rank")
  if not _LEAST <= config.lora_alpha <= 1 / _LEAST:
    raise ValueError(
      f"lora_alpha is {config.lora_alpha}, expected a positive number"
    )
  check_mesh(config.mesh)
  check_folders(model_dir=config.model_dir)


def _check_arms(arms: tuple[str, ...], known: Collection[str]) -> None:
  unknown = sorted(set(arms) - set(known))
  if unknown or not arms:
    raise ValueError(
      f"arms {unknown or '()'} are not known, expected some of {tuple(known)}"
    )
  if len(set(arms)) < len(arms):
    raise ValueError(f"arms are {arms}, expected each at most once")


def _check_stage(name: str, stage: StageConfig) -> None:
  at_least(1, stage, "steps", "prompts", "group", "micro_batches", of=name)
  at_least(0, stage, "evaluate_every", of=name)
  if stage.prompts % stage.parts:
    minibatches = stage.optimizer_steps
    times = f"{name}.minibatches, {minibatches}, times " * (minibatches > 1)
    raise ValueError(
      f"{name}.prompts is {stage.prompts}, expected a multiple of {times}"
      f"{name}.micro_batches, {stage.micro_batches}"
    )
  with named(f"{name}."):
    check_temperature(stage.temperature)
  with named(f"{name}.optimizer."):
    optimizer.check(stage.optimizer)


def _check_grpo(name: str, stage: GRPOConfig) -> None:
  at_least(1, stage, "minibatches", of=name)
  if stage.group < 2:
    raise ValueError(
      f"{name}.group is {stage.group}, expected at least 2: GRPO compares"
      " completions of one prompt"
    )
  with named(f"{name}."):
    check_settings(
      clip_low=stage.clip_low, clip_high=stage.clip_high, kl_coef=stage.kl_coef
    )
  slots, carry = stage.slots, stage.carry
  at_least(0, slots, "rows", of=f"{name}.slots")
  at_least(1, slots, "width", "segment", of=f"{name}.slots")
  with named(f"{name}.monitor."):
    monitor.check_settings(stage.monitor)
  if carry and not (slots.rows and 0 <= carry <= stage.prompts):
    raise ValueError(
      f"{name}.carry is {carry} with {name}.slots.rows {slots.rows}, expected"
      f" 0 … {stage.prompts} ({name}.prompts) prompts and rows of at least 1"
    )


def _check_data(data: DataConfig) -> None:
  at_least(1, data, "max_new_tokens", of="data")
  at_least(0, data, "workers", of="data")
  _check_share(data, "max_dropped", of="data")
  if not data.prompt_tokens or (
    len(data.prompt_tokens) != len(data.patch_slots)
  ):
    raise ValueError(
      f"data.prompt_tokens has {len(data.prompt_tokens)} buckets and"
      f" data.patch_slots {len(data.patch_slots)}; expected one patch budget"
      " per prompt length, and at least one"
    )
  buckets = zip(data.prompt_tokens, data.patch_slots, strict=True)
  with named("data."):
    check_buckets([Bucket(*bucket) for bucket in buckets])
    PixelBudget(data.min_pixels, data.max_pixels)


def _check_evaluation(evaluation: EvaluationConfig) -> None:
  at_least(1, evaluation, "every", "samples", "prompts", of="evaluation")
  at_least(1, evaluation, "endpoint_evaluations", of="evaluation")
  _check_share(evaluation, "max_missing", of="evaluation")
  with named("evaluation: "):
    Sampling(evaluation.temperature)


def _check_share(config: Any, name: str, of: str) -> None:
  value = getattr(config, name)
  if not 0 <= value <= 1:
    raise ValueError(f"{of}.{name} is {value}, expected a share, 0 to 1")


def check_folders(**folders: str) -> None:
  """Raises ValueError for a setting that names a folder which is not there."""
  for name, folder in folders.items():
    if folder and not pathlib.Path(folder).expanduser().is_dir():
      raise ValueError(
        f"{name} is {folder!r}, expected a folder; none is there"
      )


def at_least(least: int, config: Any, *names: str, of: str = "") -> None:
  """Raises ValueError for settings below a number.

  Args:
    least: the number.
    config: a section of the settings.
    *names: its fields.
    of: the section's name.
  """
  for name in names:
    value = getattr(config, name)
    if value < least:
      shown = f"{of}.{name}" if of else name
      raise ValueError(f"{shown} is {value}, expected at least {least}")


@contextlib.contextmanager
def named(prefix: str) -> Iterator[None]:
  """Puts the setting's place in front of what its owner says."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f"{prefix}{error}") from None


def check_frozen(config: StudyConfig, student: Any) -> None:
  """Raises ValueError for a vision tower to freeze that the model has not."""
  if config.freeze_vision and student.layout is None:
    raise ValueError(
      f"freeze_vision is set, expected not: {student.model_type} has no vision"
      " tower; give --nofreeze_vision"
    )


def check_adapters(config: StudyConfig, student: Any) -> None:
  """Raises ValueError for a rank that a matrix of the model has not."""
  if not config.lora_rank:
    return
  params = jax.eval_shape(lambda: models.init(student, jax.random.key(0)))
  with named("lora_"):
    jax.eval_shape(lambda tree: assemble.adapters(config.form, tree), params)


def check_batches(
  config: StudyConfig, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh
) -> None:
  """Raises ValueError for prompts that do not spread over the devices."""
  parts = {"evaluation": config.evaluation.prompts}
  for name, stage in config.stages.items():
    parts[name] = stage.prompts // stage.parts
  for name, prompts in parts.items():
    with named(f"{name}: "):
      check_rows(mesh, prompts)


def check_carry(config: StudyConfig, processes: int) -> None:
  """Raises ValueError for completions carried between processes."""
  for name, stage in config.stages.items():
    if isinstance(stage, GRPOConfig) and stage.carry and processes > 1:
      raise ValueError(
        f"{name}.carry is {stage.carry} with {processes} processes, expected"
        " 0: completions are carried within one process only"
      )
