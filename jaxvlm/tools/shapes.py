"""Static shapes that fit the problems at hand."""

from collections.abc import Sequence

import numpy as np

from jaxvlm.data import layout
from jaxvlm.data.chat import Chat
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Row, grids_of

# Prompts of nearly the same length share a program.
_STEP = 8


def buckets_for(
  rows: Sequence[Row], chat: Chat, budget: PixelBudget
) -> tuple[Bucket, ...]:
  """Returns the buckets that hold every problem, smallest first.

  One, or two where the largest problem needs more than twice what half of
  them need: each is a program to compile, and padding costs as much as
  pictures do.

  Args:
    rows: the problems; those that cannot be read do not count.
    chat: tokenizer, template, geometry.
    budget: size of pictures.
  """
  needs = []
  for row in rows:
    try:
      grids = grids_of(row, chat, budget)
      length = len(chat.prompt(row.question, grids, row.before))
    except (ValueError, OSError):
      continue
    slots = sum(layout.slots(chat.layout, grid) for grid in grids)
    needs.append((-(-length // _STEP) * _STEP, slots))
  if not needs:
    return (Bucket(_STEP, 0),)
  most = np.max(needs, 0)
  half = np.quantile(needs, 0.5, axis=0, method="higher")
  found = [most] if (most <= 2 * half).all() else [half, most]
  return tuple(Bucket(int(length), int(slots)) for length, slots in found)
