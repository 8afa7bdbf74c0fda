"""Two sides timed in turns, and the line of a table that compares them."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

HEADER = (
  "| case | base, median (min) | ours, median (min) | ratio, medians (minima)"
  " | asked / aim | agreement (largest difference) |"
)


def in_turns(calls: dict[str, Callable], repeats: int) -> dict[str, np.ndarray]:
  """Returns seconds [repeats] by name; one call of each warms up first."""
  for call in calls.values():
    call()
  seconds = {name: np.zeros(repeats) for name in calls}
  for i in range(repeats):
    for name, call in calls.items():
      start = time.perf_counter()
      call()
      seconds[name][i] = time.perf_counter() - start
  return seconds


class Row(NamedTuple):
  """One line: the slower side, the faster side, what was asked, agreement."""

  case: str
  base: np.ndarray
  fast: np.ndarray
  unit: str
  need: str
  agreement: str

  def cells(self) -> list[str]:
    slow, quick = np.median(self.base), np.median(self.fast)
    return [
      self.case,
      f"{slow:.2f} ({self.base.min():.2f}) {self.unit}",
      f"{quick:.2f} ({self.fast.min():.2f}) {self.unit}",
      f"**{slow / quick:.2f}** ({self.base.min() / self.fast.min():.2f})",
      self.need,
      self.agreement,
    ]
