"""What one record of any layout says, and how its fields are read."""

import decimal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxvlm.data.sources.records import answer_text
from jaxvlm.data.turns import PLACE, Turn

Record = Mapping[str, Any]
# Names of sides in the layouts that people have -> those of chat templates.
_ROLES = {
  "system": "system",
  "user": "user",
  "human": "user",
  "assistant": "assistant",
  "gpt": "assistant",
  "model": "assistant",
}
_ANSWERS = ("answer", "solution", "ground_truth")


class Refused(ValueError):
  """What ends the reading: nothing of the file can be used."""


class Example(NamedTuple):
  """One record, whatever its layout.

  Attributes:
    turns: what was said; the last is the user's, or the assistant's answer.
    images: one reference for each picture, in order: a path, bytes, a data
      address, or an object with bytes or path.
    rejected: an answer that is worse than the last turn; None if none is given.
    answer: what is right, to score by; None if none is given.
    id: names the record; "" if it has no name.
    group: a label to report by.
  """

  turns: tuple[Turn, ...]
  images: tuple[Any, ...] = ()
  rejected: str | None = None
  answer: str | None = None
  id: str = ""
  group: str = ""


class Layout(NamedTuple):
  """A file layout.

  Attributes:
    name: what users call it.
    fields: what its records hold, in words.
    matches: whether a record looks like it.
    parse: reads a record; raises ValueError saying what is wrong with it.
  """

  name: str
  fields: str
  matches: Callable[[Record], bool]
  parse: Callable[[Record], Example]


def short(value: Any) -> str:
  """Returns a value as messages show it."""
  text = repr(value)
  return text if len(text) <= 60 else text[:57] + "…"


def text_of(record: Record, name: str) -> str:
  """Returns a field that must be a text."""
  value = record.get(name)
  if not isinstance(value, str):
    raise ValueError(f"{name} is {short(value)}, expected a text")
  return value


def label_of(record: Record, *names: str) -> str:
  """Returns the first of some fields as text, "" where all are absent."""
  for name in names:
    value = record.get(name)
    if isinstance(value, str | int) and str(value).strip():
      return str(value)
  return ""


def answer_of(record: Record, *names: str) -> str | None:
  """Returns the first of some fields as an exact answer, None if absent."""
  for name in names or _ANSWERS:
    value = record.get(name)
    if value is None:
      continue
    try:
      if isinstance(value, float):  # of parquet; JSON's are decimals already
        value = decimal.Decimal(repr(value))
      return answer_text(value)
    except TypeError as e:
      raise ValueError(f"{name}: {e}") from e
  return None


def _images_of(record: Record) -> list[Any]:
  """Returns the pictures that a record names outside of its texts."""
  for name in ("images", "image"):
    value = record.get(name)
    if value is None:
      continue
    if isinstance(value, list | tuple):
      return [image for image in value if image is not None]
    return [value]
  return []


def said(content: Any) -> tuple[str, list[Any]]:
  """Returns (text, pictures) of a message's content.

  Args:
    content: a text, or a list of parts as in OpenAI's chat: {"type": "text",
      "text"}, {"type": "image", "image"}, {"type": "image_url", "image_url"}.

  Returns:
    The text with `<image>` for every picture; for each of these the part's
    reference, or None where it refers to the record's own list.
  """
  if isinstance(content, str):
    return content, [None] * content.count(PLACE)
  if not isinstance(content, list | tuple):
    raise ValueError(
      f"content is {short(content)}, expected a text or a list of parts"
    )
  text = ""
  images: list[Any] = []
  for part in content:
    # Columns of parquet hold every field of every part, null where absent.
    part = {"type": "text", "text": part} if isinstance(part, str) else part
    part = part if isinstance(part, Mapping) else {"type": part}
    kind = part.get("type")
    if kind == "text":
      more, places = said(text_of(part, "text"))
      text, images = text + more, images + places
    elif kind in ("image", "image_url"):
      image = part.get("image_url") or part.get("image") or part.get("path")
      if isinstance(image, Mapping) and image.get("url"):
        image = image["url"]
      text, images = text + PLACE, [*images, image]
    else:
      raise ValueError(
        f"a part of a message is of type {short(kind)}, expected text, image"
        " or image_url"
      )
  return text, images


def conversation(
  messages: Any, *, role: str = "role", content: str = "content"
) -> tuple[tuple[Turn, ...], list[Any]]:
  """Returns (turns, pictures as in `said`) of a list of messages.

  Args:
    messages: objects.
    role: their field that says who speaks.
    content: their field that says what.
  """
  if not isinstance(messages, list | tuple) or not messages:
    raise ValueError(
      f"the messages are {short(messages)}, expected a list of objects with"
      f" {role} and {content}"
    )
  turns, images = [], []
  for message in messages:
    turn, more = message_of(message, role=role, content=content)
    turns.append(turn)
    images += more
  return tuple(turns), images


def message_of(
  message: Any, *, role: str = "role", content: str = "content"
) -> tuple[Turn, list[Any]]:
  """Returns (turn, pictures as in `said`) of one message."""
  if not isinstance(message, Mapping):
    raise ValueError(
      f"a message is {short(message)}, expected an object with {role} and"
      f" {content}"
    )
  side = message.get(role)
  if not isinstance(side, str) or side not in _ROLES:
    raise ValueError(
      f"a message's {role} is {short(side)}, expected one of"
      f" {', '.join(_ROLES)}"
    )
  for flag in ("weight", "loss"):
    if message.get(flag) not in (None, True):
      raise ValueError(
        f"a message has {flag} {short(message[flag])}: expected none, because"
        " every turn of the assistant is learned"
      )
  text, images = said(message.get(content))
  return Turn(_ROLES[side], text), images


def from_turns(
  record: Record,
  turns: Sequence[Turn],
  named: Sequence[Any],
  rejected: str | None = None,
) -> Example:
  """Returns what a record says beside its turns, with them.

  Args:
    record: its fields system, images or image, answer, id and group are read.
    turns: what is said.
    named: the pictures of the turns, as in `said`.
    rejected: a worse answer.
  """
  return Example(
    _with_system(record, turns),
    _placed(named, _images_of(record)),
    rejected,
    answer_of(record),
    label_of(record, "id"),
    label_of(record, "group"),
  )


def _with_system(record: Record, turns: Sequence[Turn]) -> tuple[Turn, ...]:
  """Returns turns behind the record's own system prompt, if it has one."""
  own = record.get("system")
  if not own:
    return tuple(turns)
  if turns and turns[0].role == "system":
    raise ValueError("a system prompt stands in system and in the messages")
  return (Turn("system", text_of(record, "system")), *turns)


def _placed(named: Sequence[Any], listed: Sequence[Any]) -> tuple[Any, ...]:
  """Returns one reference for each picture.

  Args:
    named: pictures in the order of the texts; None: the next one of `listed`.
    listed: the record's own list.

  Raises:
    ValueError: not as many places in the texts as there are pictures.
  """
  if not named:
    return tuple(listed)  # in front of the first question
  missing = sum(image is None for image in named)
  if missing != len(listed):
    raise ValueError(
      f"the texts have {missing} {PLACE} for {len(listed)} picture(s): expected"
      " one for each, or none, which puts all in front of the first question"
    )
  rest = iter(listed)
  return tuple(next(rest) if image is None else image for image in named)
