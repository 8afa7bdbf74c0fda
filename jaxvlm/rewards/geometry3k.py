"""The reward of EasyR1's Geometry3K recipe, with our grader and with theirs."""

from jaxvlm.rewards import mathruler
from jaxvlm.rewards.answers import extract_boxed
from jaxvlm.rewards.format import format_reward, squeeze
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
  _check(answer)
  return _overall(grade(extract_boxed(response), answer), response)


def easyr1_reward(response: str, answer: str) -> dict[str, float]:
  """Returns what `geometry3k_reward` returns, to the verdict of EasyR1.

  accuracy: mathruler takes the last \\boxed{…} for the answer
  (`jaxvlm.rewards.mathruler`). For numbers that are compared with theirs.

  Args:
    response: the completion's text.
    answer: the right answer, not empty.

  Raises:
    ValueError: `answer` is empty.
  """
  _check(answer)
  found = mathruler.boxed(squeeze(response))
  return _overall(mathruler.grade(found, answer), response)


def _check(answer: str) -> None:
  if not answer.strip():
    raise ValueError(
      f"answer: got {answer!r}, expected the right answer; drop rows without "
      "one when the data is read"
    )


def _overall(right: bool, response: str) -> dict[str, float]:
  accuracy = float(right)
  formatted = format_reward(response)
  overall = 0.9 * accuracy + 0.1 * formatted
  return {"overall": overall, "format": formatted, "accuracy": accuracy}
