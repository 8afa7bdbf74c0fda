"""Answers to one question about pictures, token by token as they come.

`prepare` needs no weights: what is wrong with a question is said before
gigabytes are read. `answer` yields what each token adds to the text.

    request = Request("What is x?", ("circle.png",), n=4, stop=("\\n\\n",))
    ready = prepare(chat, request, max_positions=config.max_position_embeddings)
    for word in answer(bind(config), params, chat, ready):
      print(word.completion, word.text, word.entropy)
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxvlm.data import rows
from jaxvlm.data.chat import Chat
from jaxvlm.data.rows import Bucket, Encoder, Picture, Row
from jaxvlm.data.spelling import Reader, spell
from jaxvlm.data.stops import stop_table
from jaxvlm.rollout.stream import stream
from jaxvlm.sampling import Sampling, root_key
from jaxvlm.typing import Model, Params, Prompts


@dataclasses.dataclass(frozen=True)
class Request:
  """What is asked, and how it is to be answered.

  Attributes:
    question: plain text; the pictures stand where it says `<image>`, or else
      in front of it.
    images: files, encoded bytes or arrays u8[height, width, 3]; none for text.
    n: number of answers.
    sampling: the rules.
    max_new_tokens: tokens of the longest answer.
    stop: strings that end an answer; they belong to it.
    seed: root of the samples.
    min_pixels: size below which a picture is made larger; None: the folder's.
    max_pixels: size above which one is made smaller; None: the folder's.
  """

  question: str
  images: Sequence[Picture] = ()
  n: int = 1
  sampling: Sampling = dataclasses.field(default_factory=Sampling)
  max_new_tokens: int = 256
  stop: Sequence[str] = ()
  seed: int = 0
  min_pixels: int | None = None
  max_pixels: int | None = None

  def __post_init__(self):
    for name in ("n", "max_new_tokens", "min_pixels", "max_pixels"):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise ValueError(f"{name} is {value}, expected at least 1")
    if isinstance(self.images, str | bytes | pathlib.PurePath | np.ndarray):
      raise ValueError(
        f"images is one {type(self.images).__name__}, expected a sequence of"
        " pictures; put it in brackets"
      )
    root_key(self.seed)  # said before weights are read


class Ready(NamedTuple):
  """A request as the model reads it.

  Attributes:
    request: as asked.
    prompts: N = 1.
    ends: the automaton of ends, [states, V] (`jaxvlm.data.stops`).
  """

  request: Request
  prompts: Prompts
  ends: np.ndarray


class Word(NamedTuple):
  """One token of one answer.

  Attributes:
    completion: the number of the answer, 0 … n − 1.
    token: its id.
    text: what it adds to the text; empty for special tokens, end tokens and
      while a character is not whole.
    entropy: of the distribution it was drawn from, nats.
    last: whether the answer ends here.
  """

  completion: int
  token: int
  text: str
  entropy: float
  last: bool


def prepare(chat: Chat, request: Request, *, max_positions: int) -> Ready:
  """Returns the request as arrays; reads the pictures, needs no weights.

  Args:
    chat: tokenizer and template of the model.
    request: what is asked.
    max_positions: tokens that the model was made for, the answer included.

  Raises:
    FileNotFoundError: a picture does not exist.
    ValueError: a picture cannot be read, the question contains a control
      token or another number of `<image>` than of pictures, the prompt is too
      long, a stop string cannot be produced.
  """
  ends = stop_table(chat.tokenizer, request.stop, chat.eos_ids).transitions
  row = Row("question", request.question, "", tuple(request.images))
  budget = chat.pictures.budget.replaced(request.min_pixels, request.max_pixels)
  encoder = Encoder(chat, budget, (), request.max_new_tokens)
  encoded = rows.encode_prompt(row, encoder)
  length = len(encoded.tokens)
  _check_room(
    length, encoded.image_tokens, request.max_new_tokens, max_positions
  )
  bucket = Bucket(length, encoded.patch_count)
  prompts = rows.collate_prompts([encoded], bucket, chat.pad_id)
  return Ready(request, prompts, ends)


def _check_room(
  length: int, pictures: int, answer_length: int, max_positions: int
) -> None:
  """Raises ValueError unless prompt and answer fit, naming what is too long."""
  room = max_positions - answer_length
  prompt = f"the prompt has {length} tokens, {pictures} of them of pictures"
  if length >= max_positions:
    raise ValueError(
      f"{prompt}, expected fewer than the {max_positions} that the model was"
      " made for, prompt and answer together; lower max_pixels, or shorten the"
      " question"
    )
  if room < 1:
    raise ValueError(
      f"max_new_tokens is {answer_length}, expected at most"
      f" {max_positions - length}: the model was made for {max_positions}"
      f" tokens, prompt and answer together, and {prompt}"
    )
  if length > room:
    raise ValueError(
      f"{prompt}, expected at most {room}: the model was made for"
      f" {max_positions} and {answer_length} are kept for the answer; lower"
      " max_new_tokens or max_pixels, or shorten the question"
    )


def answer(
  model: Model, params: Params, chat: Chat, ready: Ready
) -> Iterator[Word]:
  """Yields the answers' tokens while they are drawn.

  The order is that of time: a few tokens of every answer, then a few more.
  The texts of an answer, one behind the other, are its decoded text.

  Args:
    model: functions of the policy.
    params: its parameters.
    chat: the tokenizer.
    ready: from `prepare`.
  """
  request = ready.request
  spelling = spell(chat.tokenizer)
  readers = [Reader(spelling) for _ in range(request.n)]
  drawn = [0] * request.n
  pieces = stream(
    model,
    params,
    ready.prompts,
    root_key(request.seed),
    np.zeros(1, np.int32),
    group=request.n,
    sampling=request.sampling,
    max_new_tokens=request.max_new_tokens,
    eos_ids=chat.eos_ids,
    pad_id=chat.pad_id,
    vocab_size=chat.vocab_size,
    ends=ready.ends,
  )
  for piece in pieces:
    tokens, entropies = piece.columns.tokens[0], piece.columns.entropies[0]
    for i, reader in enumerate(readers):
      columns = np.flatnonzero(piece.mask[0, i])
      for column in columns:
        drawn[i] += 1
        ended = piece.finished[0, i] and column == columns[-1]
        last = bool(ended or drawn[i] == request.max_new_tokens)
        token = int(tokens[i, column])
        # An end token may be an ordinary added one, which decoding shows.
        text = "" if token in chat.eos_ids else reader.read(token)
        text += reader.end() if last else ""
        yield Word(i, token, text, float(entropies[i, column]), last)
