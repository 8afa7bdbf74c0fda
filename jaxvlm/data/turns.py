"""Turns of a conversation, and where its pictures stand."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

# Marks the place of a picture in a text, as in the data sets of LLaVA,
# LLaMA-Factory and EasyR1. It is no token.
PLACE = "<image>"
# Stands for a text while a chat template is rendered: a private character.
TEXT = "\ue000"

# A turn's texts and pictures (None) in order.
Parts = tuple[str | None, ...]


class Turn(NamedTuple):
  """What one side says.

  Attributes:
    role: "system", "user" or "assistant", as chat templates name them.
    text: what is said; `<image>` marks the place of a picture.
  """

  role: str
  text: str


def parts_of(turns: Sequence[Turn], pictures: int) -> list[Parts]:
  """Returns the texts and pictures of turns in order.

  Without any mark all pictures stand in front of the first user turn.

  Args:
    turns: a prompt: ends with a user turn.
    pictures: how many there are.

  Raises:
    ValueError: marks, but not as many as there are pictures.
  """
  split = [turn.text.split(PLACE) for turn in turns]
  places = sum(len(texts) - 1 for texts in split)
  if not places:
    found: list[Parts] = [(turn.text,) for turn in turns]
    first = [turn.role for turn in turns].index("user")
    found[first] = (None,) * pictures + found[first]
    return found
  if places != pictures:
    told = "question" if len(turns) == 1 else "conversation"
    raise ValueError(
      f"the {told} has {places} {PLACE} for {pictures} picture(s): expected"
      " one for each, or none, which puts all pictures in front; give the"
      f" pictures that it speaks of, or remove {PLACE}"
    )
  return [_between(texts) for texts in split]


def _between(texts: Sequence[str]) -> Parts:
  """Returns texts with a picture between any two; empty texts are none."""
  if len(texts) == 1:
    return tuple(texts)
  parts = [part for text in texts for part in (text, None)][:-1]
  return tuple(part for part in parts if part != "")


def check_plain(turn: Turn, control: Sequence[str]) -> None:
  """Raises ValueError for a picture's control token in a text.

  Other control tokens in a text are text. This one would be, too, but whoever
  writes it means a picture that the model then would not see.

  Args:
    turn: what is said.
    control: the tokens that stand for a picture.
  """
  found = [token for token in control if token in turn.text]
  if found:
    name = "question" if turn.role == "user" else f"{turn.role}'s text"
    raise ValueError(
      f"the {name} contains {', '.join(found)}: expected plain text, because"
      " the chat template alone writes control tokens; remove the placeholder"
      f" (the place of a picture in a question is written {PLACE})"
    )


def check_answer(text: str) -> None:
  """Raises ValueError for an answer that says nothing."""
  if not text.strip():
    raise ValueError("the response is empty: expected text to learn from")


def fill_reply(
  frame: Sequence[str | int],
  turns: Sequence[Turn],
  encode: Callable[[str], list[int]],
  encode_answer: Callable[[str], list[int]],
) -> tuple[list[int], list[bool]]:
  """Returns (token ids, whether each is the assistant's) of turns.

  Answers are encoded apart from the words before them, as they are generated.

  Args:
    frame: what a template writes for the turns, `TEXT` for every text: words,
      and ids of control tokens.
    turns: from the first answer to the last.
    encode: text -> ids.
    encode_answer: the same for what the assistant says.

  Raises:
    ValueError: an answer without text, or without a control token behind it.
  """
  ids: list[int] = []
  learned: list[bool] = []

  def add(more: Sequence[int], own: bool) -> None:
    ids.extend(more)
    learned.extend([own] * len(more))

  left, ending = list(turns), False
  for piece in frame:
    if isinstance(piece, int):
      add([piece], ending)
      ending = False
      if not left:
        return ids, learned
      continue
    others, *texts = piece.split(TEXT)
    for words in texts:
      if ending:
        break
      turn = left.pop(0)
      if turn.role != "assistant":
        others += turn.text + words
        continue
      check_answer(turn.text)
      add(encode(others), False)
      add(encode_answer(turn.text + words), True)
      others, ending = "", True
    add(encode(others), False)
  raise ValueError(
    "the chat template does not end every answer with a control token: several"
    " turns cannot be told apart; use rows of one answer each"
  )
