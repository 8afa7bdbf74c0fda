"""docs/graders.md: its example runs, and its numbers are those of the table."""

import json
import pathlib
import re

from jaxvlm.rewards import final

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs/graders.md").read_text()


def test_the_example_runs():
  (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
  exec(compile(block, "docs/graders.md", "exec"), {})


def test_the_numbers_are_those_of_the_table():
  lines = (ROOT / "tests/rewards/grader_cases.jsonl").read_text().splitlines()
  cases = [json.loads(line) for line in lines]
  missed = sum(final.same(p, a) is not right for p, a, _, right in cases)
  wrong = sum(verdict is not right for *_, verdict, right in cases)
  assert f"holds {len(cases)} pairs" in PAGE
  assert f"wrong on {missed} (ratios" in PAGE
  assert f"mathruler is wrong on {wrong}." in PAGE
