"""What can be known to be wrong before anything runs."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxvlm import models
from jaxvlm.data import chat as chats
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, check_buckets
from jaxvlm.data.sources.world import Mixture
from jaxvlm.losses.grpo import check_settings
from jaxvlm.sampling import Sampling
from jaxvlm.sharding import check_mesh, check_rows
from jaxvlm.study import programs
from jaxvlm.study.config import (
  ARMS,
  Dataset,
  GRPOConfig,
  StageConfig,
  StudyConfig,
)
from jaxvlm.tokenstats import check_temperature
from jaxvlm.train import optimizer

_STAGES = ("sft_early", "sft_over", "opd", "grpo")
_LEAST = float(np.finfo(np.float32).tiny)  # what float32 keeps apart from 0


def check(config: StudyConfig) -> None:
  """Raises ValueError for settings that cannot run, before anything does.

  Whatever a number can be judged by without a model, data or devices. Rules
  live with their owners; here they are asked, and the setting is named.
  """
  _check_arms(config.arms)
  for name in _STAGES:
    _check_stage(name, getattr(config, name))
  _check_grpo(config.grpo)
  _check_data(config)
  _check_evaluation(config)
  last = config.first_seed + config.seeds - 1
  if not 0 <= config.first_seed <= last < 2**32:
    raise ValueError(
      f"first_seed is {config.first_seed} and seeds {config.seeds}, expected at"
      f" least one seed in 0 … {2**32 - 1}: a key is made of 32 bits, a larger"
      " seed would repeat a smaller one"
    )
  _at_least(1, config, "checkpoint_every", "keep_checkpoints")
  _at_least(0, config, "keep_best", "grad_norm_depth", "lora_rank")
  if config.keep_best and not config.evaluation.in_domain:
    raise ValueError(
      f"keep_best is {config.keep_best} and evaluation.in_domain 0, expected"
      " in-domain problems: their accuracy decides which are best"
    )
  if not _LEAST <= config.lora_alpha <= 1 / _LEAST:
    raise ValueError(
      f"lora_alpha is {config.lora_alpha}, expected a positive number"
    )
  check_mesh(config.mesh)


def _check_arms(arms: tuple[str, ...]) -> None:
  unknown = sorted(set(arms) - set(ARMS))
  if unknown or not arms:
    raise ValueError(
      f"arms {unknown or '()'} are not known, expected some of {ARMS}"
    )
  if len(set(arms)) < len(arms):
    raise ValueError(f"arms are {arms}, expected each at most once")


def _check_stage(name: str, stage: StageConfig) -> None:
  _at_least(1, stage, "steps", "prompts", "group", "micro_batches", of=name)
  _at_least(0, stage, "evaluate_every", of=name)
  if isinstance(stage, GRPOConfig):
    _at_least(1, stage, "minibatches", of=name)
  parts = _parts(stage)
  if stage.prompts % parts:
    minibatches = parts // stage.micro_batches
    times = f"{name}.minibatches, {minibatches}, times " * (minibatches > 1)
    raise ValueError(
      f"{name}.prompts is {stage.prompts}, expected a multiple of {times}"
      f"{name}.micro_batches, {stage.micro_batches}"
    )
  with _named(f"{name}."):
    check_temperature(stage.temperature)
  with _named(f"{name}.optimizer."):
    optimizer.check(stage.optimizer)


def _parts(stage: StageConfig) -> int:
  """Returns into how many equal parts a batch is cut."""
  minibatches = stage.minibatches if isinstance(stage, GRPOConfig) else 1
  return minibatches * stage.micro_batches


def _check_grpo(grpo: GRPOConfig) -> None:
  if grpo.group < 2:
    raise ValueError(
      f"grpo.group is {grpo.group}, expected at least 2: GRPO compares"
      " completions of one prompt"
    )
  with _named("grpo."):
    check_settings(
      clip_low=grpo.clip_low, clip_high=grpo.clip_high, kl_coef=grpo.kl_coef
    )
  slots, carry = grpo.slots, grpo.carry
  _at_least(0, slots, "rows", of="grpo.slots")
  _at_least(1, slots, "width", "segment", of="grpo.slots")
  if carry and not (slots.rows and 0 <= carry <= grpo.prompts):
    raise ValueError(
      f"grpo.carry is {carry} with grpo.slots.rows {slots.rows}, expected 0 …"
      f" {grpo.prompts} (grpo.prompts) prompts and rows of at least 1"
    )


def _check_data(config: StudyConfig) -> None:
  data = config.data
  _at_least(1, data, "traces", "train_problems", "max_new_tokens", of="data")
  _at_least(0, data, "workers", of="data")
  if not 0 <= data.max_dropped <= 1:
    raise ValueError(
      f"data.max_dropped is {data.max_dropped}, expected a share, 0 to 1"
    )
  if not data.prompt_tokens or (
    len(data.prompt_tokens) != len(data.patch_slots)
  ):
    raise ValueError(
      f"data.prompt_tokens has {len(data.prompt_tokens)} buckets and"
      f" data.patch_slots {len(data.patch_slots)}; expected one patch budget"
      " per prompt length, and at least one"
    )
  with _named("data."):
    check_buckets(
      [
        Bucket(*b)
        for b in zip(data.prompt_tokens, data.patch_slots, strict=True)
      ]
    )
    PixelBudget(data.min_pixels, data.max_pixels)
  if config.dataset is Dataset.WORLD:
    with _named("data.trace_style: "):
      Mixture((data.trace_style,))
  folders = {"model_dir": config.model_dir, "teacher_dir": config.teacher_dir}
  if config.dataset is Dataset.GEOMETRY3K:
    folders["data_dir"] = config.data_dir
    if not config.data_dir:
      raise ValueError("data_dir is empty, expected the folder of the data set")
  for name, folder in folders.items():
    if folder and not pathlib.Path(folder).expanduser().is_dir():
      raise ValueError(
        f"{name} is {folder!r}, expected a folder; none is there"
      )


def _check_evaluation(config: StudyConfig) -> None:
  evaluation = config.evaluation
  _at_least(1, evaluation, "every", "samples", "prompts", of="evaluation")
  _at_least(1, evaluation, "endpoint_evaluations", of="evaluation")
  if not 0 <= evaluation.max_missing <= 1:
    raise ValueError(
      f"evaluation.max_missing is {evaluation.max_missing}, expected a share,"
      " 0 to 1"
    )
  _at_least(0, evaluation, "in_domain", "out_of_domain", of="evaluation")
  measured = evaluation.in_domain
  if config.dataset is Dataset.WORLD:
    measured += evaluation.out_of_domain
  if not measured:
    raise ValueError(
      f"evaluation.in_domain is {evaluation.in_domain} and"
      f" evaluation.out_of_domain {evaluation.out_of_domain}, expected problems"
      " to measure; only the world has out-of-domain ones"
    )
  with _named("evaluation: "):
    Sampling(evaluation.temperature)


def _at_least(least: int, config: Any, *names: str, of: str = "") -> None:
  for name in names:
    value = getattr(config, name)
    if value < least:
      shown = f"{of}.{name}" if of else name
      raise ValueError(f"{shown} is {value}, expected at least {least}")


@contextlib.contextmanager
def _named(prefix: str) -> Iterator[None]:
  """Puts the setting's place in front of what its owner says."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f"{prefix}{error}") from None


def check_adapters(config: StudyConfig, student: Any) -> None:
  """Raises ValueError for a rank that a matrix of the model has not."""
  if not config.lora_rank:
    return
  params = jax.eval_shape(lambda: models.init(student, jax.random.key(0)))
  with _named("lora_"):
    jax.eval_shape(lambda tree: programs.adapters(config, tree), params)


def check_batches(
  config: StudyConfig, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh
) -> None:
  """Raises ValueError for prompts that do not spread over the devices."""
  parts = {"evaluation": config.evaluation.prompts}
  for name in ("sft_early", "sft_over", "opd", "grpo"):
    stage = getattr(config, name)
    parts[name] = stage.prompts // _parts(stage)
  for name, prompts in parts.items():
    try:
      check_rows(mesh, prompts)
    except ValueError as error:
      raise ValueError(f"{name}: {error}") from None


def check_folder(
  folder: str | pathlib.Path, model: Any, chat: chats.Chat
) -> None:
  """Raises unless tokenizer, geometry and model belong together."""
  found = {
    "image token": chat.image_token_id,
    "geometry of pictures": chat.layout,
    "vocabulary fits": chat.vocab_size <= model.vocab_size,
  }
  expected = {
    "image token": model.image_token_id,
    "geometry of pictures": model.layout,
    "vocabulary fits": True,
  }
  wrong = [name for name in found if found[name] != expected[name]]
  if wrong:
    raise ValueError(
      f"tokenizer and config.json of {folder} do not belong together:"
      + "; ".join(f" {n} {found[n]}, expected {expected[n]}" for n in wrong)
      + ". Use the files of one folder"
    )


def check_tokens(student: chats.Chat, teacher: chats.Chat) -> None:
  """Raises unless both read the same tokens and pixels and end at the same."""
  colors = student.pictures.colors, teacher.pictures.colors
  if colors[0] != colors[1]:
    raise ValueError(
      f"student and teacher normalize pictures by {colors[0]} and {colors[1]}:"
      " both read the same pixels; use models of one family"
    )
  if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
    raise ValueError(
      f"student and teacher have different vocabularies ({student.vocab_size}"
      f" and {teacher.vocab_size} tokens): a divergence between them is"
      " defined on the same tokens only; use models of one family"
    )
  if set(student.eos_ids) != set(teacher.eos_ids):
    raise ValueError(
      "student and teacher end their answers at different tokens,"
      f" {student.eos_ids} and {teacher.eos_ids}: expected the same, because"
      " one list serves both; copy the generation_config.json of one folder"
      " into the other"
    )
