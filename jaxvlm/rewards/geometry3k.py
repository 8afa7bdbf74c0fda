"""The reward of EasyR1's Geometry3K recipe."""

from jaxvlm.rewards.answers import extract_boxed
from jaxvlm.rewards.format import format_reward
from jaxvlm.rewards.math import grade


def geometry3k_reward(response: str, answer: str) -> dict[str, float]:
  """Returns overall = 0.9·accuracy + 0.1·format, and both parts.

  accuracy: the last \\boxed{…} is the answer (`grade`); format: the response
  thinks first and boxes (`format_reward`).

  Args:
    response: the completion's text.
    answer: the right answer, not empty.

  Raises:
    ValueError: `answer` is empty.
  """
  if not answer.strip():
    raise ValueError(
      f"answer: got {answer!r}, expected the right answer; drop rows without "
      "one when the data is read"
    )
  accuracy = float(grade(extract_boxed(response), answer))
  formatted = format_reward(response)
  overall = 0.9 * accuracy + 0.1 * formatted
  return {"overall": overall, "format": formatted, "accuracy": accuracy}
