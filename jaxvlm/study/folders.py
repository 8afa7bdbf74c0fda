"""The folders of models that a study reads, and whether they fit each other."""

import pathlib
from typing import Any, NamedTuple

from jaxvlm import models
from jaxvlm.data import chat as chats
from jaxvlm.data.chat import Chat


class ModelFolder(NamedTuple):
  """What a Hugging Face folder holds besides weights.

  Attributes:
    path: the folder.
    config: of the model.
    chat: its tokenizer and template.
  """

  path: str | pathlib.Path
  config: Any
  chat: Chat


def read(path: str | pathlib.Path) -> ModelFolder:
  """Reads a folder, weights excepted.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: weights, tokenizer and config.json do not belong together.
  """
  config = models.check_pretrained(path)
  chat = chats.load(path, config.layout)
  models.check_chat(path, config, chat)
  return ModelFolder(path, config, chat)


def check_same_tokens(student: Chat, teacher: Chat) -> None:
  """Raises unless both read the same tokens and pixels and end at the same.

  Their families may differ. A teacher that sees may teach a student that reads
  text only, for it gets what the student reads.
  """
  if student.layout is not None:
    _check_same_pixels(student, teacher)
  if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
    raise ValueError(
      f"student and teacher have different vocabularies ({student.vocab_size}"
      f" and {teacher.vocab_size} tokens): a divergence between them is"
      " defined on the same tokens only; use models with one tokenizer"
    )
  if set(student.eos_ids) != set(teacher.eos_ids):
    raise ValueError(
      "student and teacher end their answers at different tokens,"
      f" {student.eos_ids} and {teacher.eos_ids}: expected the same, because"
      " one list serves both; copy the generation_config.json of one folder"
      " into the other"
    )


def _check_same_pixels(student: Chat, teacher: Chat) -> None:
  if student.layout != teacher.layout:
    raise ValueError(
      f"the geometry of pictures is {student.layout} for the student and"
      f" {teacher.layout or 'none, for it reads text only,'} for the teacher:"
      " both read the same patches; use models of one family"
    )
  colors = student.pictures.colors, teacher.pictures.colors
  if colors[0] != colors[1]:
    raise ValueError(
      f"student and teacher normalize pictures by {colors[0]} and {colors[1]}:"
      " both read the same pixels; use models of one family"
    )
