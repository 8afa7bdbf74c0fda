"""What the Tab key offers, and that help shows flags that there are."""

import re
import subprocess
import sys

import pytest
from absl import flags

from jaxvlm import program
from jaxvlm.tools import completion
from jaxvlm.tools import main as commands
from tests import compiling

# Also: flags in the groups of a command's help that do not exist.
PROGRAM = """
import sys
from jaxvlm.tools import completion, main as commands
known = {name: completion.flags_of(name) for name in commands.NAMES}
print(completion.script(sys.argv[1], known))
print("---")
for name, found in known.items():
  there = {flag.name for flag in found}
  groups = getattr(sys.modules[f"jaxvlm.tools.{name}"], "_GROUPS", {})
  shown = {flag for names in groups.values() for flag in names}
  print(*(f"{name}: {flag}" for flag in shown - there))
"""


@pytest.fixture(scope="module")
def made():
  """Returns (the script for bash, flags in help that do not exist)."""
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM, "bash"],
    env=compiling.environment(),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.split("---\n")


def press_tab(script, line):
  """Returns what bash offers at the end of a line."""
  words = re.split(r"(=)| ", line)
  words = [word for word in words if word is not None and word != ""]
  words += [""] if line.endswith(" ") else []
  given = " ".join(f"'{word}'" for word in words)
  code = (
    f"{script}\nCOMP_LINE='{line}' COMP_POINT={len(line)}"
    f" COMP_WORDS=({given}) COMP_CWORD={len(words) - 1}\n"
    '_jaxvlm; printf "%s\\n" "${COMPREPLY[@]}"'
  )
  done = subprocess.run(
    ["bash", "-c", code], capture_output=True, text=True, check=True
  )
  return done.stdout.split()


def test_the_tab_key(made, tmp_path):
  script = made[0]
  assert press_tab(script, "jaxvlm ") == list(commands.NAMES)
  assert press_tab(script, "jaxvlm ev") == ["evaluate"]
  assert press_tab(script, "jaxvlm evaluate --samp") == ["--samples="]
  assert press_tab(script, "jaxvlm evaluate --task=wo") == ["world"]
  assert press_tab(script, "jaxvlm train --objective=sft") == ["sft", "sft_c"]
  # Of every objective.
  assert press_tab(script, "jaxvlm train --tau") == ["--tau="]
  assert press_tab(script, "jaxvlm train --clip_h") == ["--clip_high="]
  assert press_tab(script, "jaxvlm sample --color") == ["--color_entropy"]
  assert "--quiet" in press_tab(script, "jaxvlm plan --")
  (tmp_path / "rows.jsonl").touch()
  line = f"jaxvlm train --data={tmp_path}/ro"
  assert press_tab(script, line) == [f"{tmp_path}/rows.jsonl"]


def test_every_flag_that_help_shows_exists(made):
  assert made[1].strip() == ""


def test_zsh_reads_the_same_function():
  values = flags.FlagValues()
  flags.DEFINE_bool("quiet", False, "", values)
  known = {"sample": [values["quiet"]]}
  text = completion.script("zsh", known)
  assert text.startswith("#compdef jaxvlm\n") and "bashcompinit" in text
  assert text.endswith(completion.script("bash", known))


@pytest.mark.parametrize("words", [[], ["fish"], ["bash", "zsh"]])
def test_other_shells_are_refused(words, monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["jaxvlm", *words])
  values = flags.FlagValues()
  monkeypatch.setattr(program.run, "__defaults__", (values,))
  with pytest.raises(SystemExit) as end:
    completion.run()
  assert end.value.code == 1
  assert "expected one of bash, zsh" in capsys.readouterr().err
