"""Text in and out: tokenizer, chat template, image placeholders.

The tokenizer comes from a local Hugging Face folder through `AutoTokenizer`,
which needs neither torch nor torchvision; `AutoProcessor` needs both, so the
one thing it would do for us, repeating the image placeholder, is done here.

Control tokens come from the template alone. A user's text is encoded without
them, whatever it spells: transformers would read `<|im_end|>` inside a question
as the end of the turn.
"""

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

IMAGE_PAD = "<|image_pad|>"
# Marks the place of a picture in a question, as in the data sets of LLaVA,
# LLaMA-Factory and EasyR1. It is no token.
PLACE = "<image>"
# Stands for a text while the template is rendered: a private character.
_TEXT = "\ue000"
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
    turns = [self._turn("user", (False,)), self._turn("assistant", (False,))]
    _, said, behind = self._apply(turns).rpartition(_TEXT)
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
        " Qwen2.5-VL folder (its special tokens are part of the format)"
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

  @functools.cached_property
  def _frames(self) -> dict[tuple[bool, ...], tuple[str | int, ...]]:
    """User turns by their parts; a dict, which workers can be sent."""
    return {}

  def _frame(self, pictures: tuple[bool, ...]) -> tuple[str | int, ...]:
    """Returns `_render(pictures)`; rendered once."""
    if pictures not in self._frames:
      self._frames[pictures] = self._render(pictures)
    return self._frames[pictures]

  def _render(self, pictures: tuple[bool, ...]) -> tuple[str | int, ...]:
    """Returns a user turn: control tokens, and the words between them.

    Args:
      pictures: which parts of the turn are pictures; `_TEXT` stands for the
        others, so that nothing can be taken for a control token in them.
    """
    turns = [self._turn("user", pictures)]
    text = self._apply(turns, add_generation_prompt=True)
    added = self.tokenizer.get_added_vocab()
    pieces = re.split(f"({self._control})", text)
    return tuple(added.get(piece, piece) for piece in pieces if piece)

  def _turn(self, role: str, pictures: tuple[bool, ...]) -> dict[str, Any]:
    """Returns a turn as templates read it; text alone, or a list of parts."""
    if self.layout is None:
      return {"role": role, "content": _TEXT}
    text = {"type": "text", "text": _TEXT}
    parts = [{"type": "image"} if picture else text for picture in pictures]
    return {"role": role, "content": parts}

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

  def prompt(self, question: str, grids: Sequence[Grid] = ()) -> list[int]:
    """Returns the token ids of one user turn, ready for the answer.

    Args:
      question: the user's text. Pictures stand where it says `<image>`, as
        often as there are pictures; without any, in front of it.
      grids: one (frames, rows, columns) per picture.

    Raises:
      ValueError: a control token in the question, `<image>` more or less often
        than there are pictures, a template that drops parts of a turn.
    """
    if grids and self.layout is None:
      raise ValueError(
        f"the question has {len(grids)} picture(s), expected none: the model"
        " reads text only"
      )
    self._check_plain("question", question)
    parts = _parts(question, len(grids))
    frame = self._frame(tuple(part is None for part in parts))
    found = frame.count(self.image_token_id) if grids else 0
    if found != len(grids):
      raise ValueError(
        f"the chat template wrote {found} image placeholders for"
        f" {len(grids)} picture(s): expected Qwen2.5-VL's template; a text-only"
        " template drops pictures"
      )
    texts = [part for part in parts if part is not None]
    found = sum(piece.count(_TEXT) for piece in frame if isinstance(piece, str))
    if found != len(texts):
      raise ValueError(
        f"the chat template wrote {found} of {len(texts)} text(s) of a turn:"
        " expected one that writes every part once"
      )
    ids, said, sizes = [], iter(texts), iter(grids)
    for piece in frame:
      if isinstance(piece, str):
        ids += self._encode(re.sub(_TEXT, lambda _: next(said), piece))
      elif grids and piece == self.image_token_id:
        ids += [piece] * layout.image_tokens(self.layout, next(sizes))
      else:
        ids.append(piece)
    return ids

  def completion(self, text: str) -> list[int]:
    """Returns the token ids of an answer, ended by the end of the turn.

    Raises:
      ValueError: no text, or a control token in it.
    """
    if not text.strip():
      raise ValueError("the response is empty: expected text to learn from")
    self._check_plain("response", text)
    words, end = self._ending
    return [*self._encode(text + words), end]

  @functools.cached_property
  def _special(self) -> tuple[str, ...]:
    added = self.tokenizer.added_tokens_decoder.values()
    return tuple(token.content for token in added if token.special)

  def _check_plain(self, name: str, text: str) -> None:
    """Raises ValueError for a control token, which was surely not meant so.

    It would be harmless, but whoever writes `<|image_pad|>` means a picture.
    """
    found = [token for token in self._special if token in text]
    if found:
      raise ValueError(
        f"the {name} contains {', '.join(found)}: expected plain text, because"
        " the chat template alone writes control tokens; remove the placeholder"
        f" (the place of a picture in a question is written {PLACE})"
      )

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of an answer, up to the first end token."""
    ends = frozenset(self.eos_ids)
    kept = list(itertools.takewhile(lambda id: id not in ends, ids))
    return self.tokenizer.decode(kept, skip_special_tokens=True)


def _parts(question: str, pictures: int) -> list[str | None]:
  """Returns the texts and pictures (None) of a question in order."""
  texts = question.split(PLACE)
  places = len(texts) - 1
  if not places:
    return [None] * pictures + [question]
  if places != pictures:
    raise ValueError(
      f"the question has {places} {PLACE} for {pictures} picture(s): expected"
      " one for each, or none, which puts all pictures in front; give the"
      f" pictures that it speaks of, or remove {PLACE}"
    )
  parts = [part for text in texts for part in (text, None)][:-1]
  return [part for part in parts if part != ""]


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
