"""Answers in a box after thinking: the scores that two tasks share."""

from jaxvlm.rewards import extract_boxed, geometry3k_reward


def scores(response: str, reference: str) -> dict[str, float]:
  """Returns reward = 0.9·accuracy + 0.1·format, and both parts.

  Args:
    response: the completion's text.
    reference: the right answer (`geometry3k_reward`).
  """
  found = geometry3k_reward(response, reference)
  return {
    "accuracy": found["accuracy"],
    "format": found["format"],
    "reward": found["overall"],
  }


def answer(response: str) -> str:
  """Returns what stands in the last box, "" where there is none."""
  return extract_boxed(response) or ""
