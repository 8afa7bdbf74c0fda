"""What every command needs of a model folder."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxvlm import assets, models
from jaxvlm.data import chat as chats
from jaxvlm.data import completions
from jaxvlm.data.chat import Chat
from jaxvlm.data.rows import Picture
from jaxvlm.data.stops import stop_table
from jaxvlm.rollout import make_generate
from jaxvlm.rollout.answer import Request, Word, answer, prepare
from jaxvlm.rollout.generate import Generate
from jaxvlm.sampling import Sampling
from jaxvlm.typing import Batch, Params

NANO = ("nano-base", "nano-teacher")


@dataclasses.dataclass(frozen=True)
class Folder:
  """A loaded Hugging Face folder."""

  config: Any
  params: Params
  chat: Chat

  def sampler(
    self,
    group: int,
    sampling: Sampling,
    max_new_tokens: int,
    *,
    stop: Sequence[str] = (),
    **kwargs: Any,
  ) -> Generate:
    """Returns a jitted sampler of this model.

    Args:
      group: completions of a prompt.
      sampling: the rules.
      max_new_tokens: of the longest completion.
      stop: strings that end one, besides end tokens.
      **kwargs: of `models.bind`.
    """
    ends = None
    if stop:
      found = stop_table(self.chat.tokenizer, stop, self.chat.eos_ids)
      ends = found.transitions
    return make_generate(
      models.bind(self.config, **kwargs),
      group=group,
      sampling=sampling,
      max_new_tokens=max_new_tokens,
      eos_ids=self.chat.eos_ids,
      pad_id=self.chat.pad_id,
      vocab_size=self.chat.vocab_size,
      ends=ends,
    )

  def ask(self, question: str, images: Sequence[Picture] = ()) -> Batch:
    """Returns a question as the model reads it, for `logits` or `forward`.

    Args:
      question: the user's text.
      images: files, encoded bytes or arrays u8[height, width, 3].

    Returns:
      A Batch of one prompt and no completions.

    Raises:
      FileNotFoundError, ValueError: as `jaxvlm.rollout.answer.prepare`.
    """
    request = Request(question, tuple(images), max_new_tokens=1)
    ready = prepare(
      self.chat, request, max_positions=self.config.max_position_embeddings
    )
    nothing = completions.empty(1, self.chat.pad_id)
    return Batch(ready.prompts, *nothing)

  def answer(self, request: Request, **kwargs: Any) -> Iterator[Word]:
    """Yields the tokens of the answers to a question as they are drawn."""
    ready = prepare(
      self.chat, request, max_positions=self.config.max_position_embeddings
    )
    return answer(
      models.bind(self.config, **kwargs), self.params, self.chat, ready
    )


def locate(path: str) -> pathlib.Path:
  """Returns a folder, or that of a shipped model by its name.

  Raises:
    FileNotFoundError: neither.
  """
  if path in NANO:
    return assets.folder(path)
  if not pathlib.Path(path).is_dir():
    raise FileNotFoundError(
      f"there is no folder {path}: expected a local Hugging Face folder"
      f" (nothing is downloaded), or a shipped model: {', '.join(NANO)}"
    )
  return pathlib.Path(path)


def describe(path: str) -> tuple[Any, Chat]:
  """Loads what a folder holds besides weights."""
  where = locate(path)
  config = models.read_config(where)
  chat = chats.load(where, config.layout)
  models.check_chat(where, config, chat)
  return config, chat


def load(
  path: str,
  dtype: Any = np.float32,
  mesh: jax.sharding.Mesh | None = None,
) -> Folder:
  """Loads a folder, or a shipped model by its name.

  Args:
    path: of the folder.
    dtype: of the weights.
    mesh: where they go, each device what it holds; None: NumPy arrays.
  """
  _, chat = describe(path)  # what is missing is said before the weights
  where = locate(path)
  if mesh is None:
    config, params = models.load_pretrained(where, dtype)
  else:
    config, params = models.load_sharded(where, mesh, dtype)
  return Folder(config, params, chat)
