"""Whether the files of a folder belong together."""

import pathlib
from typing import Any

from jaxvlm.data.chat import Chat


def check_chat(folder: str | pathlib.Path, config: Any, chat: Chat) -> None:
  """Raises unless a tokenizer, its pictures and a model belong together.

  Args:
    folder: where they come from, for the message.
    config: the model.
    chat: tokenizer and geometry of pictures; also another folder's, if it
      is to be read by this model.

  Raises:
    ValueError: tokens that the embedding has no row for, another image token,
      another geometry.
  """
  surplus = [
    token
    for token, id in chat.tokenizer.get_vocab().items()
    if id >= config.vocab_size
  ]
  if surplus:
    raise ValueError(
      f"{folder}: the tokenizer has {len(surplus)} token(s) such as"
      f" {surplus[0]!r} beyond the model's vocab_size {config.vocab_size}:"
      " expected a row of the embedding for each; resize the embedding and the"
      " head, or take the tokens out of the tokenizer"
    )
  if chat.layout is None:
    return  # what reads text only has nothing more to agree on
  found = chat.image_token_id, chat.layout
  expected = config.image_token_id, config.layout
  for name, one, other in zip(
    ("image token", "geometry of pictures"), found, expected, strict=True
  ):
    if one != other:
      raise ValueError(
        f"tokenizer and config.json of {folder} do not belong together:"
        f" {name} {one}, expected {other}; use the files of one folder"
      )
