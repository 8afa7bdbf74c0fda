"""The list of commands and the table of exit codes say what is."""

import importlib.util
import pathlib
import re

from jaxvlm import distributed, program
from jaxvlm.tools import main as commands
from jaxvlm.train import preemption

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "exit_codes.md"


def test_every_command_is_a_module_and_listed_once():
  assert len(set(commands.NAMES)) == len(commands.NAMES)
  for name in commands.NAMES:
    assert importlib.util.find_spec(f"jaxvlm.tools.{name}")


def test_the_codes_are_those_that_programs_end_with():
  assert set(commands.EXITS) == {
    0,
    1,
    program.USAGE,
    preemption.EXIT_CODE,
    distributed.PEER_LOST,
    program.INTERRUPTED,
    program.READER_LEFT,
  }
  told = re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)
  # 134 is the shell's number of SIGABRT, which JAX ends with.
  assert set(map(int, told)) == {*commands.EXITS, 134}


def test_the_overview_shows_all_of_it(capsys):
  commands._overview()
  out = capsys.readouterr().out
  for name in commands.NAMES:
    assert re.search(rf"^  {name} +\w", out, re.MULTILINE)
  for code, what in commands.EXITS.items():
    assert re.search(rf"^  {code} +{re.escape(what)}$", out, re.MULTILINE)
  assert max(map(len, out.splitlines())) <= 80
