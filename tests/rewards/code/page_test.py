"""The page on programs: what it shows is what happens."""

import pathlib
import re

import pytest

from jaxvlm.rewards.code import Outcome, Sandbox, Unavailable

PAGE = pathlib.Path(__file__).parents[3] / "docs/code.md"


def test_the_example_prints_what_it_says(capsys):
  try:
    Sandbox(workers=1).close()
  except Unavailable as error:
    pytest.skip(f"this machine has no namespaces: {error}")
  (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
  exec(compile(block, "docs/code.md", "exec"), {})
  said = re.findall(r"print\(.*\)  # (.*)", block)
  assert capsys.readouterr().out.splitlines() == said


def test_every_outcome_is_named():
  text = PAGE.read_text()
  assert not [o.value for o in Outcome if o.value not in text]
