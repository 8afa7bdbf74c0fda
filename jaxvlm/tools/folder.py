"""What every command needs of a model folder."""

import dataclasses
import pathlib
from typing import Any

from jaxvlm import assets
from jaxvlm.data import chat as chats
from jaxvlm.data.chat import Chat
from jaxvlm.models.qwen2_5_vl import Config, bind, load_pretrained
from jaxvlm.rollout import make_generate
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
      eos_ids=(self.chat.eos_id,),
      pad_id=self.chat.pad_id,
      vocab_size=self.chat.vocab_size,
    )


def load(path: str) -> Folder:
  """Loads a folder, or a shipped model by its name."""
  where = assets.folder(path) if path in NANO else pathlib.Path(path)
  config, params = load_pretrained(where)
  return Folder(config, params, chats.load(where, config.layout))
