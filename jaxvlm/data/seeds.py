"""Seeds of generated worlds: a split owns a block, an index a stretch of it."""

_BLOCK = 2**40  # seeds of a split
# Seeds of an index, tried in turn until one is of the split: where seven of
# eight are refused, (7/8)^256 never happens.
_ATTEMPTS = 2**8
INDICES = _BLOCK // _ATTEMPTS


def first(split: str, block: int, index: int) -> int:
  """Returns the first seed of an index.

  Args:
    split: its name, for the message.
    block: the split's own number.
    index: 0 to 2³² - 1.

  Raises:
    ValueError: if the index lies outside the split's block.
  """
  if not 0 <= index < INDICES:
    raise ValueError(
      f"index {index} of split {split!r}; expected 0 to {INDICES - 1}: a split"
      " has no more seeds"
    )
  return block * _BLOCK + index * _ATTEMPTS
