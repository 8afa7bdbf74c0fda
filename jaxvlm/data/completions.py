"""Completions as arrays: what is learned of responses, and who reads what.

The completions of a row stand in streams behind its prompt. A stream has one
response; or, packed, whole rows of text alone behind it: segments keep them
apart, so that they cost no padding of their own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvlm.data.chat import Chat
from jaxvlm.data.turns import Turn


class Guest(NamedTuple):
  """A row of text alone that stands in the stream of another.

  Attributes:
    question: as `Row.question`.
    response: to learn from.
    before: as `Row.before`.
  """

  question: str
  response: "str | tuple[Turn, ...]"
  before: tuple[Turn, ...] = ()


class Packed(NamedTuple):
  """A response and the guests behind it.

  Attributes:
    response: to the row's own prompt.
    guests: read neither the prompt nor one another.
  """

  response: "str | tuple[Turn, ...]"
  guests: tuple[Guest, ...] = ()


# A text; or turns from the assistant's first to its last, of which all that the
# assistant says is learned; or one of these with guests.
Response = str | tuple[Turn, ...] | Packed


class Stream(NamedTuple):
  """One completion; three lists of T.

  Attributes:
    ids: tokens.
    learned: whether they are the assistant's.
    segments: 0 the row's own, 1, 2, … its guests'.
  """

  ids: list[int]
  learned: list[bool]
  segments: list[int]


def stream(chat: Chat, response: Response) -> Stream:
  """Returns what a response is in tokens.

  Raises:
    ValueError: as `Chat.reply` and `Chat.prompt`.
  """
  packed = response if isinstance(response, Packed) else Packed(response)
  ids, learned = chat.reply(packed.response)
  out = Stream(list(ids), list(learned), [0] * len(ids))
  for number, guest in enumerate(packed.guests, 1):
    prompt = chat.prompt(guest.question, (), guest.before)
    ids, learned = chat.reply(guest.response)
    out.ids.extend([*prompt, *ids])
    out.learned.extend([*[False] * len(prompt), *learned])
    out.segments.extend([number] * (len(prompt) + len(ids)))
  return out


class Completions(NamedTuple):
  """Fields of `jaxvlm.typing.Batch`.

  Attributes:
    tokens: i32[N, G, T].
    mask: bool[N, G, T].
    segments: i32[N, T]; None where no stream is packed.
  """

  tokens: np.ndarray
  mask: np.ndarray
  segments: np.ndarray | None = None


def collate(
  responses: Sequence[Sequence[Response]], chat: Chat, length: int
) -> Completions:
  """Returns the completions of N rows of G responses.

  The mask is of what the assistant says. In a response of several turns it has
  holes: the model reads what the user says between, and does not learn it.

  Args:
    responses: of every row; only one of each where some are packed.
    chat: encodes them.
    length: T.
  """
  if any(isinstance(row, str) for row in (responses, *responses)):
    raise ValueError(
      "responses are one text, expected a sequence of texts for every row; put"
      " the text in brackets"
    )
  groups = {len(row) for row in responses}
  if len(groups) != 1 or groups == {0}:
    raise ValueError(
      f"rows have {sorted(groups)} responses, expected the same positive"
      " number in every row"
    )
  shape = (len(responses), groups.pop(), length)
  tokens = np.full(shape, chat.pad_id, np.int32)
  mask, segments = np.zeros(shape, bool), np.zeros(shape, np.int32)
  for i, row in enumerate(responses):
    for g, response in enumerate(row):
      ids, learned, apart = stream(chat, response)
      tokens[i, g, : len(ids)] = ids
      mask[i, g, : len(ids)] = learned
      segments[i, g, : len(ids)] = apart
      segments[i, g, len(ids) :] = apart[-1]
  if not any(isinstance(each, Packed) for row in responses for each in row):
    return Completions(tokens, mask)
  if shape[1] != 1:
    raise ValueError(
      f"a packed row has {shape[1]} responses, expected one: others would need"
      " guests of their own"
    )
  return Completions(tokens, mask, segments[:, 0])


def empty(n: int, pad_id: int) -> Completions:
  """Returns the completions of a prompts-only batch: G = 0."""
  return Completions(
    np.full((n, 0, 1), pad_id, np.int32), np.zeros((n, 0, 1), bool)
  )
