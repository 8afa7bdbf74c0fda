"""The Makefile: what it would run, and what it refuses."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
OLD = """#!/bin/sh
[ "$1" = --version ] && echo Python 3.10.12
exit 1
"""


@pytest.fixture
def make(tmp_path):
  """Returns a function: arguments -> finished `make` in a copy of the tree."""
  if not shutil.which("make"):
    pytest.skip("make is not installed")
  for name in ("Makefile", "setup.py", "requirements.txt"):
    shutil.copy(ROOT / name, tmp_path)

  def call(*arguments):
    return subprocess.run(
      ["make", f"PYTHON={sys.executable}", *arguments],
      cwd=tmp_path,
      capture_output=True,
      text=True,
      env={"PATH": os.environ["PATH"]},
    )

  return call


def script(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)


@pytest.mark.parametrize(
  "word,quick",
  [("1", True), ("yes", True), ("true", True), ("0", False), ("no", False)],
)
def test_any_true_word_makes_the_study_quick(make, word, quick):
  done = make("-n", "lab", f"QUICK={word}")
  assert done.returncode == 0, done.stderr
  assert ("-quick --quick" in done.stdout) == quick


@pytest.mark.parametrize("word", ["maybe", "10", "1 0", "-1"])
def test_other_words_are_refused(make, word):
  done = make("-n", "lab", f"QUICK={word}")
  assert done.returncode and f"QUICK is '{word}', expected 1" in done.stderr


def test_a_python_that_is_too_old_makes_nothing(make, tmp_path):
  script(tmp_path / "old", OLD)
  done = make("lab", f"PYTHON={tmp_path}/old")
  assert done.returncode
  assert "old is Python 3.10.12, expected Python 3.11 to 3.13" in done.stderr
  assert "make PYTHON=python3.12 lab" in done.stderr
  assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("state", ["absent", "old", "half", "whole"])
def test_an_environment_that_does_not_work_is_made_again(make, tmp_path, state):
  venv = tmp_path / ".venv"
  if state == "old":
    script(venv / "bin" / "python", OLD)
  if state == "half":
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to("/nowhere/python")
  if state == "whole":
    script(venv / "bin" / "python", "#!/bin/sh\n")
  if state != "absent":
    (venv / ".installed").touch()
  done = make("-n", "lab")
  assert done.returncode == 0, done.stderr
  assert ("-m venv --clear .venv" in done.stdout) == (state != "whole")
  assert ("pip install" in done.stdout) == (state != "whole")
