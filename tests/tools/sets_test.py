"""Problems of a task by its name, as commands measure them."""

import pytest

from jaxvlm.rewards.code import Level
from jaxvlm.tools import sets
from jaxvlm.tools.problems import NAMES, Wanted
from tests.tasks.code_test import HUMANEVAL, write


def test_programs_are_graded_while_their_sandbox_is_open(tmp_path):
  found = [{**HUMANEVAL, "task_id": f"Ours/{i}"} for i in range(3)]
  file = write(tmp_path / "HumanEval.jsonl", *found)
  wanted = Wanted("humaneval", str(file), level=Level.RLIMITS)
  with sets.of_task(wanted, 2) as asked:
    ((rows, count),) = asked.sets.values()
    assert count == len(rows) == 2
    scores = asked.task.reward(["pass"] * 2, rows)
    assert list(scores["accuracy"]) == [0, 0]


def test_what_is_generated_has_sets_of_its_own_and_no_end():
  with sets.of_task(Wanted("world"), None) as asked:
    assert list(asked.sets) == ["in_domain", "out_of_domain"]
    assert {count for _, count in asked.sets.values()} == {210}
  for name in ("world", "scenes"):
    told = pytest.raises(ValueError, match="has no end; expected a number")
    with told, sets.of_task(Wanted(name), -1):
      pass


@pytest.mark.parametrize("name", NAMES)
def test_data_that_are_missing_or_too_many_are_named(name, tmp_path):
  generated = name in ("world", "scenes", "programs")
  wanted = Wanted(name, str(tmp_path) if generated else "")
  told = pytest.raises(ValueError, match=f"data is .*task {name} ")
  with told, sets.of_task(wanted, 1):
    pass
