"""What a reward may return, checked wherever completions are graded."""

import math
from collections.abc import Callable, Collection, Mapping

# (response, answer) -> parts by name, "overall" among them
Reward = Callable[[str, str], Mapping[str, float]]


def grade(
  reward: Reward, response: str, answer: str, *, parts: Collection[str]
) -> dict[str, float]:
  """Returns what `reward` says of a response, as floats by name.

  Args:
    reward: yours.
    response: the completion's text.
    answer: the exact answer of the row.
    parts: names that must be there.

  Raises:
    ValueError: the reward returned anything but a mapping of names to finite
      numbers, or lacks a part. A NaN would make the advantages of its whole
      group NaN, and the step would be skipped.
  """
  found = reward(response, answer)
  name = getattr(reward, "__name__", type(reward).__name__)
  told = f"the reward {name!r} returned {found!r} for the answer {answer!r}"
  if not isinstance(found, Mapping):
    raise ValueError(
      f"{told}, a {type(found).__name__}; expected a mapping of names to"
      f" numbers, with {', '.join(sorted(parts))}, such as"
      ' {"overall": 1.0, "accuracy": 1.0, "format": 1.0}'
    )
  lacking = sorted(set(parts) - set(found))
  if lacking:
    raise ValueError(
      f"{told}, without {', '.join(lacking)}; expected"
      f" {', '.join(sorted(parts))} for every response"
    )
  return {part: _number(told, part, value) for part, value in found.items()}


def _number(told: str, part: str, value: object) -> float:
  try:
    number = math.nan if isinstance(value, str) else float(value)  # type: ignore[arg-type]
  except (TypeError, ValueError):
    number = math.nan
  if not math.isfinite(number):
    raise ValueError(f"{told}: {part} is {value!r}, expected a finite number")
  return number
