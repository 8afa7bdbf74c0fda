"""How many different answers a policy still gives to one problem."""

import collections
from collections.abc import Sequence

Answers = Sequence[Sequence[str | None]]


def distinct_answers(answers: Answers) -> float:
  """Returns the mean number of distinct final answers per problem.

  Answers are compared as given: pass `rewards.canonical` of each, so that
  "0.50" and "1/2" are one. None, a sample without an answer, is no answer.

  Args:
    answers: per problem, the final answer of every sample.

  Raises:
    ValueError: no problem, or a problem without samples.
  """
  counts = _counts(answers)
  return sum(len(count) for count, _ in counts) / len(counts)


def mode_share(answers: Answers) -> float:
  """Returns the mean share of samples that give the most common answer.

  Args:
    answers: as in `distinct_answers`; None counts as a sample.

  Raises:
    ValueError: no problem, or a problem without samples.
  """
  counts = _counts(answers)
  return sum(
    max(count.values(), default=0) / samples for count, samples in counts
  ) / len(counts)


def _counts(answers: Answers) -> list[tuple[collections.Counter, int]]:
  """Returns (answer -> count, number of samples) of every problem."""
  if not answers:
    raise ValueError("answers: got no problem, expected at least one")
  for index, samples in enumerate(answers):
    if isinstance(samples, str) or not samples:
      raise ValueError(
        f"answers[{index}]: got {samples!r}, expected a list with at least one "
        "answer"
      )
  return [
    (collections.Counter(a for a in samples if a is not None), len(samples))
    for samples in answers
  ]
