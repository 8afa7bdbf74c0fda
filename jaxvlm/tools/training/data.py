"""Static shapes of a run, found from its rows, and what is said of them."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

from jaxvlm.data.chat import Chat
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.own import Table
from jaxvlm.data.rows import Bucket, Row
from jaxvlm.tools.training import buckets, packing
from jaxvlm.tools.training.buckets import Need
from jaxvlm.tools.training.config import DataConfig

_SAMPLED = 256  # longest completion, where nothing tells
# A bucket that fills fewer batches an epoch is not worth its program: compiling
# it takes longer than a small set takes to train.
_BATCHES = 4


class Shapes(NamedTuple):
  """Static shapes, and what rows take of them.

  Attributes:
    data: the settings, with every shape that they left open.
    rows: to learn from; where they are packed, the streams.
    needs: of the rows to learn from that can be used.
    apart: the same before they were packed; None where they are not.
  """

  data: DataConfig
  rows: Sequence[Row]
  needs: tuple[Need, ...]
  apart: "Shapes | None" = None

  @property
  def buckets(self) -> tuple[Bucket, ...]:
    """The shapes of prompts."""
    pairs = zip(self.data.prompt_tokens, self.data.patch_slots, strict=True)
    return tuple(Bucket(*pair) for pair in pairs)

  @property
  def positions(self) -> int:
    """Tokens of an epoch that are computed, padding included."""
    places = (buckets.place_of(need, self.buckets) for need in self.needs)
    return sum(
      self.buckets[place].prompt_tokens + self.data.max_new_tokens
      for place in places
      if place is not None
    )


def shapes(
  data: DataConfig,
  chat: Chat,
  rows: Sequence[Row],
  others: Sequence[Row],
  *,
  batch: int,
  sampled: bool,
  most: int,
) -> Shapes:
  """Returns the settings with shapes that hold all rows.

  Args:
    data: settings; what they say of shapes is kept.
    chat: the student's.
    rows: to learn from.
    others: to measure on.
    batch: rows in a batch.
    sampled: whether completions are sampled.
    most: positions that the model was made for.

  Raises:
    ValueError: prompts and completions beyond these positions; streams that
      are longer than a completion may be.
  """
  own = chat.pictures.budget
  data = dataclasses.replace(
    data,
    min_pixels=own.min_pixels if data.min_pixels is None else data.min_pixels,
    max_pixels=own.max_pixels if data.max_pixels is None else data.max_pixels,
  )
  budget = PixelBudget(data.min_pixels, data.max_pixels)
  needs = buckets.measure(rows, chat, budget)
  beside = [n for n in buckets.measure(others, chat, budget) if n]
  made = functools.partial(_made, data, beside, batch, most, sampled)
  found = made(rows, needs)
  if data.pack:
    if data.max_new_tokens is not None and data.pack > data.max_new_tokens:
      raise ValueError(
        f"data.pack is {data.pack}, expected at most data.max_new_tokens, which"
        f" is {data.max_new_tokens}: a stream is a completion"
      )
    given = data.prompt_tokens
    packed = packing.pack(rows, needs, data.pack, given[-1] if given else None)
    found = made(*packed)._replace(apart=found)
  total = found.data.prompt_tokens[-1] + found.data.max_new_tokens
  if total > most:
    raise ValueError(
      f"prompts of {found.data.prompt_tokens[-1]} tokens and completions of"
      f" {found.data.max_new_tokens} make {total}, expected at most {most},"
      " which the model was made for; lower --data.max_new_tokens,"
      " --data.max_pixels or --data.prompt_tokens, which drops the longest rows"
    )
  return found


def _made(
  data: DataConfig,
  beside: Sequence[Need],
  batch: int,
  most: int,
  sampled: bool,
  rows: Sequence[Row],
  needs: Sequence[Need | None],
) -> Shapes:
  """Returns shapes for rows, and for others that are measured beside them."""
  used = [need for need in needs if need]
  every = [*used, *beside] or [Need(1, 0, ())]
  chosen = buckets.choose(every, _BATCHES * batch)
  if not data.prompt_tokens:
    data = dataclasses.replace(
      data,
      prompt_tokens=tuple(bucket.prompt_tokens for bucket in chosen),
      patch_slots=tuple(bucket.patch_slots for bucket in chosen),
    )
  if data.max_new_tokens is None:
    room = max(most - data.prompt_tokens[-1], 1)
    replies = [n for need in [*used, *beside] for n in need.replies]
    longest = max(replies, default=1)
    data = dataclasses.replace(
      data, max_new_tokens=min(_SAMPLED, room) if sampled else longest
    )
  return Shapes(data, rows, tuple(used))


def describe(found: Table, shapes: Shapes, path: str) -> str:
  """Returns what is printed of rows before the first step."""
  carried = ", ".join(f"{n} with {what}" for what, n in found.carrying.items())
  lines = [
    f"rows: {len(found.rows)} of {path}, layout {found.layout!r}"
    f" ({carried or 'questions alone'}), {len(found.dropped)} records dropped"
  ]
  placed = [buckets.place_of(need, shapes.buckets) for need in shapes.needs]
  what = "streams" if shapes.apart else "rows"
  for number, bucket in enumerate(shapes.buckets):
    lines.append(
      f"bucket {number + 1}: {bucket.prompt_tokens} prompt tokens,"
      f" {bucket.patch_slots} patch slots: {placed.count(number)} {what}"
    )
  fitting = [
    need
    for need, place in zip(shapes.needs, placed, strict=True)
    if place is not None
  ]
  if fitting:
    length = shapes.data.max_new_tokens
    share = buckets.padding(fitting, shapes.buckets, length)
    said = f"padding: {share.prompt:.0%} of prompt tokens"
    if any(need.slots for need in fitting):
      said += f", {share.slots:.0%} of patch slots"
    if any(need.replies for need in fitting):
      said += f", {share.replies:.0%} of {length} tokens a response"
    else:
      said += f"; completions of up to {length} tokens are sampled"
    lines.append(said)
  if shapes.apart:
    # Rows with pictures have streams as long as those that others share.
    change = shapes.positions / shapes.apart.positions - 1
    lines.append(
      f"packing: {len(shapes.apart.needs)} rows in {len(shapes.needs)} streams,"
      f" {abs(change):.0%} {'more' if change > 0 else 'fewer'} positions of"
      " text an epoch; a batch is of streams"
    )
  return "\n".join(lines)
