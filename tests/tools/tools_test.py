"""The `jaxvlm` command, as a person types it."""

import re
import subprocess
import sys

import pytest
from PIL import Image

from jaxvlm import program
from jaxvlm.data import diagrams
from tests import compiling


def _jaxvlm(*args):
  return subprocess.run(
    [sys.executable, "-m", "jaxvlm.tools.main", *map(str, args)],
    env=compiling.environment(),
    capture_output=True,
    text=True,
  )


def test_help_lists_the_commands():
  done = _jaxvlm("--help")
  assert done.returncode == 0
  for command in ("sample", "evaluate", "world"):
    assert command in done.stdout
  for group in ("Look", "Train", "Measure", "Plan", "Exit codes"):
    assert f"\n{group}\n" in done.stdout


@pytest.mark.parametrize("command", ["sample", "world"])
def test_help_of_a_command_names_it_as_it_is_typed(command):
  done = _jaxvlm(command, "--help")
  assert done.returncode == 0 and done.stderr == ""
  assert done.stdout.startswith(f"usage: jaxvlm {command} [--flags]")


def test_unknown_command_names_the_known_ones():
  done = _jaxvlm("smaple")
  assert done.returncode == program.USAGE
  assert "no command 'smaple'; did you mean sample? expected" in done.stderr


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
  problem = diagrams.generate("circle", 1)
  path = tmp_path_factory.mktemp("picture") / "circle.png"
  Image.fromarray(problem.image).save(path)
  return path, problem


def test_sample_answers_and_counts(picture):
  path, problem = picture
  done = _jaxvlm(
    "sample",
    "--model_dir=nano-teacher",
    f"--image={path}",
    f"--prompt={problem.question}",
    "--n=4",
    "--max_new_tokens=44",
    "--color_entropy",
  )
  assert done.returncode == 0, done.stderr
  assert "distinct answers in 4" in done.stdout
  assert "\033[38;5;" in done.stdout
  plain = re.sub(r"\033\[[0-9;]*m", "", done.stdout)
  assert "\\boxed" in plain and "<|im_end|>" not in plain
