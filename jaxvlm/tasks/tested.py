"""Programs scored by unit tests, as reinforcement learning rewards them."""

import functools
import weakref
from collections.abc import Mapping, Sequence

from jaxvlm.data.rows import Row
from jaxvlm.rewards.code import Level, Sandbox
from jaxvlm.tasks import code

# A program that passes all tests earns 2, any other 0: arXiv 2606.18487. There
# is no reward for form.
PASSED = 2.0


class Passes:
  """A task's reward: whether a response passes the tests of its row.

  The sandbox starts with the first batch and ends with this object, or with
  the process.

  Args:
    level: how programs are walled in (`rewards.code.Level`).
    timeout_s: wall time of a program with its tests.
  """

  def __init__(
    self, level: Level = Level.NAMESPACES, *, timeout_s: float = 2.0
  ):
    self._level = level
    self._timeout_s = timeout_s

  @functools.cached_property
  def _sandbox(self) -> Sandbox:
    sandbox = Sandbox(level=self._level, timeout_s=self._timeout_s)
    weakref.finalize(self, sandbox.close)
    return sandbox

  def __call__(
    self, responses: Sequence[str], rows: Sequence[Row]
  ) -> dict[str, list[float]]:
    """Returns the scores of `tasks.code`, with a reward of 2 or 0."""
    jobs = [(r, row.reference) for r, row in zip(responses, rows, strict=True)]
    return doubled(code.scores(self._sandbox.run(jobs)))


def doubled(scores: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
  """Returns the scores with a reward of 2 for a program that passes."""
  kept = {name: list(values) for name, values in scores.items()}
  return {**kept, "reward": [PASSED * r for r in scores["reward"]]}


answer = code.program_name
