"""The task of small programs: graded by the sandbox."""

import pytest

from jaxvlm.data import programs
from jaxvlm.rewards.code import Level
from jaxvlm.tasks import programs as task_lib
from jaxvlm.tasks import score, tested


@pytest.fixture(scope="module")
def task():
  return task_lib.task(level=Level.RLIMITS)


def test_right_programs_earn_two_and_wrong_ones_nothing(task):
  rows = task.rows("test")[:6]
  responses, graded, expected = [], [], []
  for i, row in enumerate(rows):
    problem = programs.sample(programs.TEST, i)
    wrong = f"def f({problem.argument}):\n    return {problem.argument}\n"
    for response, right in (
      *((text, 1.0) for text in problem.solutions.values()),
      (wrong, 0.0),
      ("I do not know.", 0.0),
      ("", 0.0),
    ):
      responses.append(response)
      graded.append(row)
      expected.append(right)
  found = score(task, responses, graded)
  assert found["accuracy"].tolist() == expected
  assert found["reward"].tolist() == [2 * right for right in expected]


def test_answers_are_programs_whatever_their_comments():
  one = tested.answer("# 1 -> 2\ndef f(x):\n    return x + 1\n")
  assert one and one == tested.answer("def f(x):\n  return (x + 1)")
  assert one != tested.answer("def f(x):\n    return 1 + x\n")
  assert one.isalpha()
  for broken in ("def f(x:", "\0", "(" * 10**5, "x" * 10**6 + "("):
    assert tested.answer(broken) == ""


def test_unknown_split(task):
  with pytest.raises(ValueError, match="split 'train' of the programs"):
    task.rows("train")
