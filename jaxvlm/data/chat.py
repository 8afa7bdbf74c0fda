"""Text in and out: tokenizer, chat template, image placeholders.

The tokenizer comes from a local Hugging Face folder through `AutoTokenizer`,
which needs neither torch nor torchvision; `AutoProcessor` needs both, so the
one thing it would do for us, repeating the image placeholder, is done here.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxvlm.data import layout
from jaxvlm.data.layout import Grid, VisionLayout
from jaxvlm.data.processor import FAMILY, PictureSettings, settings

IMAGE_PAD = "<|image_pad|>"
END_OF_TURN = "<|im_end|>"
PAD = "<|endoftext|>"
# What gives a conversation its structure; in a text it would forge turns or
# pictures.
_STRUCTURE = (IMAGE_PAD, "<|video_pad|>", "<|im_start|>", END_OF_TURN, PAD)


@dataclasses.dataclass(frozen=True)
class Chat:
  """A tokenizer with its chat template and the geometry of pictures.

  Attributes:
    tokenizer: a transformers fast tokenizer.
    layout: turns a picture's grid into a number of image tokens.
    listed_ends: the end tokens that the folder's generation_config.json lists.
    pictures: sizes and colors that the folder asks for.
  """

  tokenizer: Any
  layout: VisionLayout
  listed_ends: tuple[int, ...] = ()
  pictures: PictureSettings = FAMILY

  @functools.cached_property
  def eos_id(self) -> int:
    """The end of a turn, as the template writes it; what SFT teaches."""
    return self._id(END_OF_TURN)

  @functools.cached_property
  def eos_ids(self) -> tuple[int, ...]:
    """All tokens that end a completion, `eos_id` first.

    As in transformers' `generate`, those that the folder lists; and the
    tokenizer's own, for folders without a list.
    """
    own = self.tokenizer.eos_token_id
    ends = (self.eos_id, *(() if own is None else (own,)), *self.listed_ends)
    return tuple(dict.fromkeys(ends))

  @functools.cached_property
  def pad_id(self) -> int:
    return self._id(PAD)

  @functools.cached_property
  def image_token_id(self) -> int:
    return self._id(IMAGE_PAD)

  @property
  def vocab_size(self) -> int:
    """Tokens the tokenizer knows; the model's head may be padded beyond."""
    return len(self.tokenizer)

  @functools.cached_property
  def fingerprint(self) -> str:
    """A digest of tokenizer, chat template, end tokens and picture colors."""
    rules = self.tokenizer.backend_tokenizer.to_str()
    template = self.tokenizer.chat_template or ""
    ends = (self.tokenizer.eos_token, self.listed_ends)
    everything = f"{rules}\0{template}\0{ends}\0{tuple(self.pictures.colors)}"
    return hashlib.sha256(everything.encode()).hexdigest()

  def _id(self, token: str) -> int:
    found = self.tokenizer.convert_tokens_to_ids(token)
    # An unknown token maps to None or to the unknown token, if there is one.
    if found is None or self.tokenizer.convert_ids_to_tokens(found) != token:
      raise ValueError(
        f"the tokenizer has no token {token!r}: expected the tokenizer of a"
        " Qwen2.5-VL folder (its special tokens are part of the format)"
      )
    return found

  def _encode(self, text: str) -> list[int]:
    try:
      return self.tokenizer.encode(text, add_special_tokens=False)
    except TypeError as e:
      raise ValueError(
        f"the text {text[:40]!r}… cannot be encoded: {e}; expected valid"
        " Unicode without lone surrogates"
      ) from e

  def prompt(self, question: str, grids: Sequence[Grid] = ()) -> list[int]:
    """Returns the token ids of one user turn, ready for the answer.

    Args:
      question: the user's text; pictures stand in front of it.
      grids: one (frames, rows, columns) per picture.
    """
    _check_plain("question", question)
    content = [{"type": "image"} for _ in grids]
    content.append({"type": "text", "text": question})
    text = self.tokenizer.apply_chat_template(
      [{"role": "user", "content": content}],
      tokenize=False,
      add_generation_prompt=True,
    )
    head, *tails = text.split(IMAGE_PAD)
    if len(tails) != len(grids):
      raise ValueError(
        f"the chat template wrote {len(tails)} image placeholders for"
        f" {len(grids)} picture(s): expected Qwen2.5-VL's template; a text-only"
        " template drops pictures"
      )
    for grid, tail in zip(grids, tails, strict=True):
      head += IMAGE_PAD * layout.image_tokens(self.layout, grid) + tail
    return self._encode(head)

  def completion(self, text: str) -> list[int]:
    """Returns the token ids of an answer, ended by the end of the turn."""
    if not text.strip():
      raise ValueError("the response is empty: expected text to learn from")
    _check_plain("response", text)
    return [*self._encode(text), self.eos_id]

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of an answer, up to the first end token."""
    ends = frozenset(self.eos_ids)
    kept = list(itertools.takewhile(lambda id: id not in ends, ids))
    return self.tokenizer.decode(kept, skip_special_tokens=True)


def _check_plain(name: str, text: str) -> None:
  found = [token for token in _STRUCTURE if token in text]
  if found:
    raise ValueError(
      f"the {name} contains {', '.join(found)}: expected plain text, because"
      " the chat template writes turns and puts pictures in front of the"
      " question; remove the placeholder"
    )


def load(folder: str | pathlib.Path, vision: VisionLayout) -> Chat:
  """Loads tokenizer and chat template of a local Hugging Face folder.

  Raises:
    FileNotFoundError: no folder or no tokenizer in it.
    ValueError: no chat template, a generation_config.json that cannot be read
      or lists an end that is no token, settings of pictures that are not
      supported.
  """
  from transformers import AutoTokenizer  # slow to import

  folder = pathlib.Path(folder)
  names = ("tokenizer.json", "vocab.json")
  if not any((folder / name).is_file() for name in names):
    raise FileNotFoundError(
      f"{folder} has neither {' nor '.join(names)}: expected a local Hugging"
      " Face folder with a tokenizer (nothing is downloaded)"
    )
  tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
  # Official folders keep the multimodal template beside the tokenizer's own.
  separate = folder / "chat_template.json"
  if separate.is_file():
    tokenizer.chat_template = json.loads(separate.read_text())["chat_template"]
  if not tokenizer.chat_template:
    raise ValueError(
      f"{folder} has no chat template: expected chat_template.jinja,"
      " chat_template.json, or the field in tokenizer_config.json"
    )
  return Chat(
    tokenizer,
    vision,
    _listed_ends(folder, len(tokenizer)),
    settings(folder, vision),
  )


def _listed_ends(folder: pathlib.Path, vocab_size: int) -> tuple[int, ...]:
  """Returns `eos_token_id` of generation_config.json: a token, many, or none.

  Raises:
    ValueError: the file is broken or lists what is no token.
  """
  path = folder / "generation_config.json"
  if not path.is_file():
    return ()
  try:
    config = json.loads(path.read_text(encoding="utf-8"))
    listed = config.get("eos_token_id")
  except (ValueError, AttributeError) as e:
    raise ValueError(
      f"{path} is no JSON object ({e}): expected the file of the model's"
      " folder, with eos_token_id; copy it again, or remove it to end"
      f" completions at {END_OF_TURN} and the tokenizer's eos_token alone"
    ) from e
  ends = listed if isinstance(listed, list) else [listed]
  if listed is None:
    ends = []
  wrong = [
    end
    for end in ends
    if type(end) is not int or not 0 <= end < vocab_size  # bool is an int
  ]
  if wrong:
    raise ValueError(
      f"{path}: eos_token_id lists {wrong}, expected token ids of this"
      f" folder's tokenizer, 0 … {vocab_size - 1}; use the files of one folder"
    )
  return tuple(ends)
