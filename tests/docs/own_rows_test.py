"""Pages of the docs whose commands are run: a stranger's path works."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page):
  return _BLOCK.findall((ROOT / "docs" / page).read_text())


@pytest.mark.slow
def test_the_path_from_rows_to_a_trained_model(tmp_path):
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  for kind, code in blocks("own_rows.md"):
    named = re.match(r"# (\S+\.py)\n", code)
    if kind == "python" and named:
      (tmp_path / named[1]).write_text(code)
      continue
    if kind == "python":
      lines = [[sys.executable, "-c", code]]
    else:
      lines = [
        [sys.executable, "-m", "jaxvlm.tools.main", *line.split()[1:]]
        for line in code.splitlines()
      ]
    for words in lines:
      done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True
      )
      assert done.returncode == 0, (words, done.stderr[-4000:])
  for name in ("sft", "grpo"):
    assert (tmp_path / f"runs/{name}/report.html").is_file()
    assert (tmp_path / f"runs/{name}/model/model.safetensors").is_file()
  assert (tmp_path / "runs/scores/rows.html").is_file()
  assert (tmp_path / "runs/scores/against/rows.json").is_file()
