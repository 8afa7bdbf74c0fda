"""Text in and out: tokenizer, chat template, image placeholders.

The tokenizer comes from a local Hugging Face folder through `AutoTokenizer`,
which needs neither torch nor torchvision; `AutoProcessor` needs both, so the
one thing it would do for us, repeating the image placeholder, is done here.

Control tokens come from the template alone. A user's text is encoded without
them, whatever it spells: transformers would read `<|im_end|>` inside a question
as the end of the turn. Here it is text like any other.
"""

import copy
import dataclasses
import functools
import hashlib
import itertools
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from jaxvlm import jsonfile
from jaxvlm.data import layout
from jaxvlm.data.layout import Grid, VisionLayout
from jaxvlm.data.processor import FAMILY, PictureSettings, settings
from jaxvlm.data.turns import (
  TEXT,
  Parts,
  Turn,
  check_answer,
  check_plain,
  fill_reply,
  parts_of,
)

IMAGE_PAD = "<|image_pad|>"
# Whoever writes one of these into a question means a picture or a film.
_PLACEHOLDERS = (IMAGE_PAD, "<|video_pad|>")
# Given to templates that print today's date: a prompt is a function of its row,
# and a run that resumes tomorrow reads the same ones.
_DATE = {"date_string": "26 Jul 2024"}  # Llama 3's own default
# Files of a tokenizer, read by transformers.
_JSON = (
  "tokenizer.json",
  "vocab.json",
  "tokenizer_config.json",
  "added_tokens.json",
  "special_tokens_map.json",
)


@dataclasses.dataclass(frozen=True)
class Chat:
  """A tokenizer with its chat template and the geometry of pictures.

  Attributes:
    tokenizer: a transformers fast tokenizer.
    layout: turns a picture's grid into a number of image tokens; None where
      the model reads text only.
    listed_ends: the end tokens that the folder's generation_config.json lists.
    pictures: sizes and colors that the folder asks for.
  """

  tokenizer: Any
  layout: VisionLayout | None
  listed_ends: tuple[int, ...] = ()
  pictures: PictureSettings = FAMILY

  @functools.cached_property
  def eos_id(self) -> int:
    """The end of a turn, as the template writes it; what SFT teaches."""
    return self._ending[1]

  @functools.cached_property
  def eos_ids(self) -> tuple[int, ...]:
    """All tokens that end a completion, `eos_id` first.

    As in transformers' `generate`, those that the folder lists; and the
    tokenizer's own, for folders without a list.
    """
    return tuple(dict.fromkeys((self.eos_id, *self._known_ends)))

  @property
  def _known_ends(self) -> tuple[int, ...]:
    own = self.tokenizer.eos_token_id
    return (*(() if own is None else (own,)), *self.listed_ends)

  @functools.cached_property
  def _ending(self) -> tuple[str, int]:
    """What the template writes behind an answer: (words, control token).

    If it writes no control token there, nothing and the tokenizer's own end.
    """
    turns = [self._turn(role, (TEXT,)) for role in ("user", "assistant")]
    _, said, behind = self._apply(turns).rpartition(TEXT)
    found = re.search(self._control, behind) if said else None
    if found:
      words = behind[: found.start()]
      return words, self.tokenizer.get_added_vocab()[found.group()]
    if not self._known_ends:
      raise ValueError(
        "no token ends an answer: expected one behind it in the chat template,"
        " eos_token in tokenizer_config.json, or eos_token_id in"
        " generation_config.json"
      )
    return "", self._known_ends[0]

  @functools.cached_property
  def pad_id(self) -> int:
    """The tokenizer's padding; masks tell it apart, so an end may serve."""
    own = self.tokenizer.pad_token_id
    return self.eos_id if own is None else own

  @functools.cached_property
  def image_token_id(self) -> int | None:
    """The placeholder of a picture; None where the model reads text only."""
    return None if self.layout is None else self._id(IMAGE_PAD)

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
        " model that reads pictures (its special tokens are part of the format)"
      )
    return found

  def _encode(self, text: str) -> list[int]:
    """Returns the ids of a text; none of them is an added token."""
    backend = self.tokenizer.backend_tokenizer
    try:
      if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
      words = [text]
      if backend.pre_tokenizer is not None:
        words = [w for w, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
      return [t.id for word in words for t in backend.model.tokenize(word)]
    except (TypeError, UnicodeEncodeError) as e:
      raise ValueError(
        f"the text {text[:40]!r}… cannot be encoded: {e}; expected valid"
        " Unicode without lone surrogates"
      ) from e

  def _encode_answer(self, text: str) -> list[int]:
    """Returns the ids of what an assistant says, its own tokens among them.

    `<think>` or `<tool_call>` are one token each where a folder has them, as
    the model writes them. Special tokens and those that are spelled as such
    (`<|fim_prefix|>`) are text.
    """
    added = self.tokenizer.get_added_vocab()
    ids: list[int] = []
    for number, piece in enumerate(re.split(f"({self._own})", text)):
      own = number % 2  # between the pieces stands what the pattern found
      ids += [added[piece]] if own else self._encode(piece)
    return ids

  @functools.cached_property
  def _own(self) -> str:
    """A pattern of the tokens that answers may hold."""
    added = self.tokenizer.added_tokens_decoder.values()
    names = [
      token.content
      for token in added
      if not token.special and not token.content.startswith("<|")
    ]
    return "|".join(map(re.escape, sorted(names, key=len)[::-1])) or "(?!)"

  @functools.cached_property
  def _frames(self) -> dict[Any, tuple[str | int, ...]]:
    """Rendered templates by shape; a dict, which workers can be sent."""
    return {}

  def _frame(self, shape: tuple[tuple[str, Parts], ...]) -> Any:
    """Returns a prompt: control tokens, and the words between them.

    Args:
      shape: (role, parts) of every turn; texts are `TEXT`, so that nothing can
        be taken for a control token in them.
    """
    if shape not in self._frames:
      turns = [self._turn(role, parts) for role, parts in shape]
      text = self._apply(turns, add_generation_prompt=True)
      self._frames[shape] = self._pieces(text)
    return self._frames[shape]

  def _reply_frame(self, roles: tuple[str, ...]) -> tuple[str | int, ...]:
    """Returns what the template writes behind a prompt for these turns."""
    if roles not in self._frames:
      turns = [self._turn(role, (TEXT,)) for role in ("user", *roles)]
      opened = self._apply(turns[:1], add_generation_prompt=True)
      whole = self._apply(turns)
      if not whole.startswith(opened):
        raise ValueError(
          "the chat template writes a conversation differently from a prompt"
          " and its answer: expected one that only adds to what it wrote, such"
          " as Qwen2.5-VL's; use rows of one answer each"
        )
      self._frames[roles] = self._pieces(whole[len(opened) :])
    return self._frames[roles]

  def _pieces(self, text: str) -> tuple[str | int, ...]:
    """Splits a rendered template at its control tokens."""
    added = self.tokenizer.get_added_vocab()
    pieces = re.split(f"({self._control})", text)
    return tuple(added.get(piece, piece) for piece in pieces if piece)

  def _turn(self, role: str, parts: Parts) -> dict[str, Any]:
    """Returns a turn as templates read it; text alone, or a list of parts."""
    if self.layout is None:
      return {"role": role, "content": TEXT}
    content = [
      {"type": "image"} if part is None else {"type": "text", "text": part}
      for part in parts
    ]
    return {"role": role, "content": content}

  def _apply(self, turns: list[dict[str, Any]], **options: Any) -> str:
    return self.tokenizer.apply_chat_template(
      turns, tokenize=False, **options, **_DATE
    )

  @functools.cached_property
  def _control(self) -> str:
    """A pattern of all added tokens, the longest first."""
    added = sorted(self.tokenizer.get_added_vocab(), key=len, reverse=True)
    # A pattern that never matches, where no token was added.
    return "|".join(map(re.escape, added)) or "(?!)"

  def prompt(
    self,
    question: str,
    grids: Sequence[Grid] = (),
    before: Sequence[Turn] = (),
  ) -> list[int]:
    """Returns the token ids of a prompt, ready for the answer.

    Args:
      question: the user's text. Pictures stand where it says `<image>`, as
        often as there are pictures; without any, in front of it.
      grids: one (frames, rows, columns) per picture, those of `before` first.
      before: what was said before the question: a system prompt, earlier turns.

    Raises:
      ValueError: a picture's control token in a text, `<image>` more or less
        often than there are pictures, a template that drops parts of a turn.
    """
    if grids and self.layout is None:
      raise ValueError(
        f"the question has {len(grids)} picture(s), expected none: the model"
        " reads text only"
      )
    turns = (*before, Turn("user", question))
    for turn in turns:
      check_plain(turn, _PLACEHOLDERS)
    parts = parts_of(turns, len(grids))
    frame = self._frame(
      tuple(
        (turn.role, tuple(part if part is None else TEXT for part in said))
        for turn, said in zip(turns, parts, strict=True)
      )
    )
    found = frame.count(self.image_token_id) if grids else 0
    if found != len(grids):
      raise ValueError(
        f"the chat template wrote {found} image placeholders for"
        f" {len(grids)} picture(s): expected the model's own template; a"
        " text-only template drops pictures"
      )
    texts = [part for said in parts for part in said if part is not None]
    found = sum(piece.count(TEXT) for piece in frame if isinstance(piece, str))
    if found != len(texts):
      raise ValueError(
        f"the chat template wrote {found} of {len(texts)} text(s) of a"
        " prompt: expected one that writes every part once"
      )
    ids, said, sizes = [], iter(texts), iter(grids)
    for piece in frame:
      if isinstance(piece, str):
        ids += self._encode(re.sub(TEXT, lambda _: next(said), piece))
      elif self.layout and grids and piece == self.image_token_id:
        ids += [piece] * layout.image_tokens(self.layout, next(sizes))
      else:
        ids.append(piece)
    return ids

  def completion(self, text: str) -> list[int]:
    """Returns the token ids of an answer, ended by the end of the turn.

    Raises:
      ValueError: no text.
    """
    check_answer(text)
    words, end = self._ending
    return [*self._encode_answer(text + words), end]

  def reply(self, said: str | Sequence[Turn]) -> tuple[list[int], list[bool]]:
    """Returns (token ids, whether each is the assistant's) behind a prompt.

    The end of an assistant's turn is the assistant's, too; the users' turns
    between two answers, and what the template writes around them, are not.

    Args:
      said: an answer; or turns from the first answer to the last, without
        pictures.

    Raises:
      ValueError: an answer without text, turns that do not begin and end with
        the assistant's, a template that does not end its answers.
    """
    if isinstance(said, str):
      ids = self.completion(said)
      return ids, [True] * len(ids)
    roles = tuple(turn.role for turn in said)
    if not roles or {roles[0], roles[-1]} != {"assistant"}:
      raise ValueError(
        f"a reply has the turns {', '.join(roles) or 'of nobody'}: expected it"
        " to begin and to end with the assistant's"
      )
    frame = self._reply_frame(roles)
    return fill_reply(frame, said, self._encode, self._encode_answer)

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of an answer, up to the first end token."""
    ends = frozenset(self.eos_ids)
    kept = list(itertools.takewhile(lambda id: id not in ends, ids))
    return self.tokenizer.decode(kept, skip_special_tokens=True)


def completing(chat: Chat) -> Chat:
  """Returns a chat whose prompt is the question itself, as base models read it.

  Nothing stands around it but the beginning of a text, where the tokenizer
  writes one.

  Raises:
    ValueError: the model reads pictures, which a template has to place.
  """
  if chat.layout is not None:
    raise ValueError(
      "prompts to be completed are text alone, and this model reads pictures;"
      " expected a model of text, or prompts as chat"
    )
  tokenizer = copy.copy(chat.tokenizer)
  begin = tokenizer("").input_ids[:1]
  first = "{{ bos_token }}" if begin == [tokenizer.bos_token_id] else ""
  tokenizer.chat_template = (
    first + "{% for turn in messages %}{{ turn['content'] }}{% endfor %}"
  )
  return dataclasses.replace(chat, tokenizer=tokenizer)


def load(folder: str | pathlib.Path, vision: VisionLayout | None) -> Chat:
  """Loads tokenizer and chat template of a local Hugging Face folder.

  Args:
    folder: the folder.
    vision: geometry of pictures; None for a model that reads text only.

  Raises:
    FileNotFoundError: no folder or no tokenizer in it.
    ValueError: a file of the tokenizer that cannot be read, no chat template,
      a generation_config.json that cannot be read or lists an end that is no
      token, settings of pictures that are not supported.
  """
  from transformers import AutoTokenizer  # slow to import

  folder = pathlib.Path(folder)
  names = ("tokenizer.json", "vocab.json")
  if not any((folder / name).is_file() for name in names):
    raise FileNotFoundError(
      f"{folder} has neither {' nor '.join(names)}: expected a local Hugging"
      " Face folder with a tokenizer (nothing is downloaded)"
    )
  for name in _JSON:  # transformers would say what is wrong, but not where
    if (folder / name).is_file():
      jsonfile.read(folder / name)
  try:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
  except Exception as e:  # the readers' own, down to a bare Exception
    raise ValueError(
      f"the tokenizer of {folder} cannot be loaded: {e}; copy"
      f" {', '.join(names)} and tokenizer_config.json again"
    ) from e
  # Official folders keep the multimodal template beside the tokenizer's own.
  separate = folder / "chat_template.json"
  if separate.is_file():
    tokenizer.chat_template = jsonfile.read(separate).get("chat_template")
  if not tokenizer.chat_template:
    raise ValueError(
      f"{folder} has no chat template: expected chat_template.jinja,"
      " chat_template.json, or the field in tokenizer_config.json"
    )
  return Chat(
    tokenizer,
    vision,
    _listed_ends(folder, len(tokenizer)),
    FAMILY if vision is None else settings(folder, vision),
  )


def _listed_ends(folder: pathlib.Path, vocab_size: int) -> tuple[int, ...]:
  """Returns `eos_token_id` of generation_config.json: a token, many, or none.

  Raises:
    ValueError: the file is broken or lists what is no token.
  """
  path = folder / "generation_config.json"
  if not path.is_file():
    return ()
  listed = jsonfile.read(path).get("eos_token_id")
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
