"""Static shapes found from rows, and what they waste on padding.

Every bucket is a program to compile, and every prompt is padded to its bucket:
a few buckets, where they pay.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvlm import bars
from jaxvlm.data import layout
from jaxvlm.data.chat import Chat
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Row, grids_of

# Prompts of nearly the same length share a program.
_STEP = 8
_MOST = 4  # buckets
# Another program has to save a tenth of the positions.
_WORTH = 0.9
_CANDIDATES = 48  # ends of a bucket that are tried


class Need(NamedTuple):
  """What one row takes.

  Attributes:
    prompt: tokens of the prompt.
    slots: patch slots of its pictures.
    replies: tokens of each response.
  """

  prompt: int
  slots: int
  replies: tuple[int, ...]


def measure(
  rows: Sequence[Row], chat: Chat, budget: PixelBudget
) -> list[Need | None]:
  """Returns what every row takes, None where it cannot be used."""
  found: list[Need | None] = []
  for row in bars.bar(rows, "measure rows", delay=bars.PATIENCE):
    try:
      found.append(_need(row, chat, budget))
    except (ValueError, OSError):
      found.append(None)  # the survey says why
  return found


def _need(row: Row, chat: Chat, budget: PixelBudget) -> Need:
  grids = grids_of(row, chat, budget)
  return Need(
    len(chat.prompt(row.question, grids, row.before)),
    sum(layout.slots(chat.layout, grid) for grid in grids),
    tuple(len(chat.reply(said)[0]) for said in row.responses),
  )


def choose(
  needs: Sequence[Need], least: int, most: int = _MOST
) -> tuple[Bucket, ...]:
  """Returns buckets that hold all rows, smallest first.

  The cheapest partition of the rows, sorted by prompt or by pictures, into at
  most so many groups; one more only where it saves a tenth of the positions
  (prompt tokens and patch slots alike) and each group is large enough.

  Args:
    needs: of the rows; at least one.
    least: rows that a bucket is for, if there are several.
    most: how many buckets there may be.
  """
  sizes = np.array([(-(-n.prompt // _STEP) * _STEP, n.slots) for n in needs])
  cost, shapes = np.inf, [tuple(sizes.max(0))]
  for keys in ((sizes[:, 1], sizes[:, 0]), (sizes[:, 0], sizes[:, 1])):
    for groups, found in enumerate(
      _partitions(sizes[np.lexsort(keys)], least, most)
    ):
      if found[0] < _WORTH**groups * cost * (1 - 1e-9):
        cost, shapes = found[0] / _WORTH**groups, found[1]
  return tuple(Bucket(int(s), int(p)) for s, p in shapes)


def _partitions(
  sizes: np.ndarray, least: int, most: int
) -> list[tuple[float, list[tuple[int, int]]]]:
  """Returns (positions, shapes) of the cheapest cuts into 1, 2, … groups.

  Args:
    sizes: i64[K, 2] of rows, in the order in which they are cut.
    least: rows in a group, if there are several.
    most: groups.
  """
  shapes = np.maximum.accumulate(sizes)  # of a bucket that ends with the row
  area = shapes.sum(1).astype(float)
  last = np.flatnonzero(np.append(np.any(np.diff(shapes, axis=0), 1), True))
  places = np.linspace(0, len(last) - 1, _CANDIDATES).astype(int)
  ends = last[np.unique(places)]
  # best[g][j]: (positions, ends) of the rows up to ends[j] in g + 1 groups.
  best = [[((e + 1) * area[e], [e]) for e in ends]]
  for _ in range(1, most):
    best.append(
      [
        min(
          (
            (cost + (end - before[-1]) * area[end], [*before, end])
            for cost, before in best[-1][:j]
            if min(end - before[-1], before[0] + 1) >= least
          ),
          default=(np.inf, [-1]),
        )
        for j, end in enumerate(ends)
      ]
    )
  found = [row[-1] for row in best]
  return [(cost, [tuple(shapes[e]) for e in cut]) for cost, cut in found]


class Padding(NamedTuple):
  """Shares of positions that hold nothing.

  Attributes:
    prompt: of prompt tokens.
    slots: of patch slots; 0 where there are none.
    replies: of tokens of responses; 0 where there are none.
  """

  prompt: float
  slots: float
  replies: float


def padding(
  needs: Sequence[Need], buckets: Sequence[Bucket], length: int
) -> Padding:
  """Returns what batches of these rows are padded by.

  Args:
    needs: of the rows, each of which fits a bucket.
    buckets: the static shapes.
    length: of responses.
  """
  held = np.array([buckets[place_of(need, buckets)] for need in needs])
  used = np.array([(need.prompt, need.slots) for need in needs])
  replies = [count for need in needs for count in need.replies]
  prompt, slots = (_share(used[:, i].sum(), held[:, i].sum()) for i in (0, 1))
  return Padding(prompt, slots, _share(sum(replies), length * len(replies)))


def place_of(need: Need, buckets: Sequence[Bucket]) -> int | None:
  """Returns the first bucket that holds a row; None if none does."""
  fits = (
    i
    for i, bucket in enumerate(buckets)
    if need.prompt <= bucket.prompt_tokens and need.slots <= bucket.patch_slots
  )
  return next(fits, None)


def _share(used: float, held: float) -> float:
  return float(1 - used / held) if held else 0.0
