"""What every command needs of a model folder."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from jaxvlm import assets
from jaxvlm.data import chat as chats
from jaxvlm.data.chat import Chat
from jaxvlm.models.qwen2_5_vl import Config, bind, load_pretrained
from jaxvlm.rollout import make_generate
from jaxvlm.rollout.answer import Request, Word, answer, prepare
from jaxvlm.rollout.generate import Generate
from jaxvlm.sampling import Sampling
from jaxvlm.typing import Params

NANO = ("nano-base", "nano-teacher")


@dataclasses.dataclass(frozen=True)
class Folder:
  """A loaded Hugging Face folder."""

  config: Config
  params: Params
  chat: Chat

  def sampler(
    self, group: int, sampling: Sampling, max_new_tokens: int, **kwargs: Any
  ) -> Generate:
    """Returns a jitted sampler of this model."""
    return make_generate(
      bind(self.config, **kwargs),
      group=group,
      sampling=sampling,
      max_new_tokens=max_new_tokens,
      eos_ids=self.chat.eos_ids,
      pad_id=self.chat.pad_id,
      vocab_size=self.chat.vocab_size,
    )

  def answer(self, request: Request, **kwargs: Any) -> Iterator[Word]:
    """Yields the tokens of the answers to a question as they are drawn."""
    ready = prepare(
      self.chat, request, max_positions=self.config.max_position_embeddings
    )
    return answer(bind(self.config, **kwargs), self.params, self.chat, ready)


def locate(path: str) -> pathlib.Path:
  """Returns a folder, or that of a shipped model by its name."""
  return assets.folder(path) if path in NANO else pathlib.Path(path)


def describe(path: str) -> tuple[Config, Chat]:
  """Loads what a folder holds besides weights."""
  where = locate(path)
  config = Config.from_folder(where)
  return config, chats.load(where, config.layout)


def load(path: str) -> Folder:
  """Loads a folder, or a shipped model by its name."""
  config, chat = describe(path)  # what is missing is said before the weights
  _, params = load_pretrained(locate(path))
  return Folder(config, params, chat)
