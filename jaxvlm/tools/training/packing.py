"""Packing: short rows of text alone share a stream, which saves padding.

arXiv:2107.02027, best fit of decreasing lengths. Each row still reads itself
alone (`jaxvlm.data.completions`), so that loss and gradients are those of the
rows apart; what changes is how many of them a batch holds.
"""

import bisect
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from jaxvlm.data.completions import Guest, Packed
from jaxvlm.data.rows import Row
from jaxvlm.tools.training.buckets import Need


class Streams(NamedTuple):
  """Packed rows, in the order of the first of each stream.

  Attributes:
    rows: each with the response to its own prompt, and guests behind it.
    needs: what they take; None where a row cannot be used.
  """

  rows: tuple[Row, ...]
  needs: tuple[Need | None, ...]


def pack(
  rows: Sequence[Row],
  needs: Sequence[Need | None],
  length: int,
  longest_prompt: int | None = None,
) -> Streams:
  """Returns rows of which those that are short share streams.

  A row with pictures, and one that the survey will drop, is alone: nothing goes
  with it.

  Args:
    rows: with one response each.
    needs: of the rows.
    length: tokens of a stream.
    longest_prompt: that fits a bucket; None: all do.
  """

  def fits(number: int) -> bool:
    need = needs[number]
    if need is None or rows[number].images or need.replies[0] > length:
      return False
    return longest_prompt is None or need.prompt <= longest_prompt

  def size(number: int) -> int:
    return needs[number].prompt + needs[number].replies[0]

  streams: list[list[int]] = []
  free: list[tuple[int, int]] = []  # (tokens left, stream), ascending
  packed = [number for number in range(len(rows)) if fits(number)]
  streams.extend([n] for n in range(len(rows)) if not fits(n))
  for number in sorted(packed, key=size, reverse=True):
    at = bisect.bisect_left(free, (size(number), 0))
    if at < len(free):
      left, stream = free.pop(at)
      streams[stream].append(number)
      left -= size(number)
    else:  # the first one's prompt is the stream's
      left, stream = length - needs[number].replies[0], len(streams)
      streams.append([number])
    bisect.insort(free, (left, stream))
  ordered = sorted(streams)
  return Streams(
    tuple(_joined([rows[n] for n in stream]) for stream in ordered),
    tuple(_together([needs[n] for n in stream]) for stream in ordered),
  )


def _joined(rows: Sequence[Row]) -> Row:
  first, *others = rows
  guests = tuple(
    Guest(row.question, row.responses[0], row.before) for row in others
  )
  name = f"{first.id} and {len(guests)} more" if guests else first.id
  packed = Packed(first.responses[0], guests)
  return dataclasses.replace(first, id=name, responses=(packed,))


def _together(needs: Sequence[Need | None]) -> Need | None:
  first, *others = needs
  if first is None:
    return None
  more = sum(need.prompt + need.replies[0] for need in others)
  return first._replace(replies=(first.replies[0] + more,))
