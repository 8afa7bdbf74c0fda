"""The default reward of a user's rows, and a second opinion beside it."""

import logging
from collections.abc import Sequence

from jaxvlm.data.rows import Row
from jaxvlm.rewards import final
from jaxvlm.rewards.opinion import SecondOpinion
from jaxvlm.tasks.task import Reward, one_by_one

METRICS = ("accuracy", "answered")
VERSION = final.VERSION
# Every disagreement is kept as a score; the first ones are told.
_WARNINGS = 20

scores: Reward = one_by_one(final.scores)


def answer(response: str) -> str:
  """Returns the answer that a response gives, "" where there is none."""
  return final.final_answer(response) or ""


class Checked:
  """The default reward, with math-verify's verdict held against it.

  Rewards stay what they are. A score `disagreement` is 1 where math-verify says
  otherwise, and -1 where it says nothing (it took too long or failed); the rows
  of the first disagreements are named in warnings.

  Args:
    opinion: asked of every answer.
  """

  def __init__(self, opinion: SecondOpinion):
    self._opinion = opinion
    self._told = 0

  def __call__(
    self, responses: Sequence[str], rows: Sequence[Row]
  ) -> dict[str, list[float]]:
    found = {k: list(v) for k, v in scores(responses, rows).items()}
    found["disagreement"] = [
      self._disagreement(final.final_answer(response), row, bool(right))
      for response, row, right in zip(
        responses, rows, found["accuracy"], strict=True
      )
    ]
    return found

  def _disagreement(self, given: str | None, row: Row, right: bool) -> float:
    if given is None:
      return 0.0  # there is no answer to judge
    verdict = self._opinion.ask(given, row.reference)
    if verdict is None:
      return -1.0
    if verdict is right:
      return 0.0
    self._told += 1
    if self._told <= _WARNINGS:
      logging.warning(
        "row %r: %r is %s by %s and %s by math-verify; the reference is %r",
        row.id,
        given,
        "right" if right else "wrong",
        VERSION,
        "right" if verdict else "wrong",
        row.reference,
      )
    return 1.0
