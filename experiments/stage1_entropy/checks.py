"""What can be known to be wrong before anything runs."""

import pathlib

import jax

from experiments.stage1_entropy.config import ARMS, StudyConfig
from jaxvlm.data import chat as chats
from jaxvlm.models.qwen2_5_vl import Config
from jaxvlm.sharding import check_rows


def check(config: StudyConfig) -> None:
  """Raises ValueError for settings that cannot run, before anything does."""
  unknown = sorted(set(config.arms) - set(ARMS))
  if unknown or not config.arms:
    raise ValueError(
      f"arms {unknown or '()'} are not known, expected some of {ARMS}"
    )
  last = config.first_seed + config.seeds - 1
  if not 0 <= config.first_seed <= last < 2**32:
    raise ValueError(
      f"first_seed is {config.first_seed} and seeds {config.seeds}, expected at"
      f" least one seed in 0 … {2**32 - 1}: a key is made of 32 bits, a larger"
      " seed would repeat a smaller one"
    )
  if config.grpo.group < 2:
    raise ValueError(
      f"grpo.group is {config.grpo.group}, expected at least 2: GRPO compares"
      " completions of one prompt"
    )
  at_least_one = {
    "evaluation.every": config.evaluation.every,
    "evaluation.endpoint_evaluations": config.evaluation.endpoint_evaluations,
    "keep_checkpoints": config.keep_checkpoints,
  }
  for name in ("sft_early", "sft_over", "opd", "grpo"):
    stage = getattr(config, name)
    for field in ("steps", "prompts", "group", "micro_batches"):
      at_least_one[f"{name}.{field}"] = getattr(stage, field)
    if stage.prompts % max(stage.micro_batches, 1):
      raise ValueError(
        f"{name}.prompts is {stage.prompts}, expected a multiple of"
        f" {name}.micro_batches, {stage.micro_batches}"
      )
  slots, carry = config.grpo.slots, config.grpo.carry
  if carry and not (slots.rows and 0 <= carry <= config.grpo.prompts):
    raise ValueError(
      f"grpo.carry is {carry} with grpo.slots.rows {slots.rows}, expected 0 …"
      f" {config.grpo.prompts} (grpo.prompts) prompts and rows of at least 1"
    )
  if slots.rows:
    at_least_one["grpo.slots.rows"] = slots.rows
    at_least_one["grpo.slots.width"] = slots.width
    at_least_one["grpo.slots.segment"] = slots.segment
  if config.lora_rank < 0 or not config.lora_alpha > 0:
    raise ValueError(
      f"lora_rank is {config.lora_rank} and lora_alpha {config.lora_alpha},"
      " expected a rank of 0 (no adapters) or more and a positive alpha"
    )
  for name, value in at_least_one.items():
    if value < 1:
      raise ValueError(f"{name} is {value}, expected at least 1")


def check_batches(
  config: StudyConfig, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh
) -> None:
  """Raises ValueError for prompts that do not spread over the devices."""
  parts = {"evaluation": config.evaluation.prompts}
  for name in ("sft_early", "sft_over", "opd", "grpo"):
    stage = getattr(config, name)
    parts[name] = stage.prompts // stage.micro_batches
  for name, prompts in parts.items():
    try:
      check_rows(mesh, prompts)
    except ValueError as error:
      raise ValueError(f"{name}: {error}") from None


def check_folder(
  folder: str | pathlib.Path, model: Config, chat: chats.Chat
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
