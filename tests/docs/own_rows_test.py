"""docs/own_rows.md: its commands are run, and its scripts are the examples."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.docs import pages

PAGE = "docs/own_rows.md"
NAME = re.compile(r"# (\S+\.py)\n")


@pytest.mark.parametrize("name", ["twenty_rows.py", "sft_dpo_grpo.py"])
def test_the_scripts_are_the_examples(name):
  (shown,) = [
    code.split("\n", 1)[1]
    for _, code in pages.blocks(PAGE, "python")
    if NAME.match(code)[1] == name
  ]
  source = pages.read(f"examples/{name}")
  assert source.split('"""\n', 1)[1].lstrip("\n") == shown


@pytest.mark.slow
def test_the_path_from_rows_to_a_trained_model(tmp_path):
  environment = {**os.environ, "PYTHONPATH": str(pages.ROOT)}
  programs = {
    "jaxvlm": [sys.executable, "-m", "jaxvlm.tools.main"],
    "python": [sys.executable],
  }
  for kind, code in pages.blocks(PAGE, "python", "sh"):
    if kind == "python":
      (tmp_path / NAME.match(code)[1]).write_text(code)
      continue
    for line in code.splitlines():
      program, *words = shlex.split(line)
      done = subprocess.run(
        [*programs[program], *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
      )
      assert done.returncode == 0, (line, done.stderr[-4000:])
  for name in ("sft", "grpo"):
    assert (tmp_path / f"runs/{name}/report.html").is_file()
    assert (tmp_path / f"runs/{name}/model/model.safetensors").is_file()
  assert (tmp_path / "runs/scores/rows.html").is_file()
  assert (tmp_path / "runs/scores/against/rows.json").is_file()


@pytest.mark.slow
def test_the_script_of_three_stages(tmp_path):
  environment = {**os.environ, "PYTHONPATH": str(pages.ROOT)}
  for words in (
    ["twenty_rows.py", "mine"],
    ["sft_dpo_grpo.py", "mine/rows.jsonl", "runs"],
  ):
    done = subprocess.run(
      [sys.executable, pages.ROOT / "examples" / words[0], *words[1:]],
      cwd=tmp_path,
      env=environment,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, (words, done.stderr[-4000:])
  assert (tmp_path / "runs/grpo/model/model.safetensors").is_file()
