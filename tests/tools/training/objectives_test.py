"""Every objective, as a user runs it: killed, resumed, exported, loaded."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxvlm import assets
from jaxvlm.tools.training.recipes import RECIPES
from tests.tools import own_rows

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "jaxvlm.tools.main"]
STEPS = 4


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
  folder = tmp_path_factory.mktemp("rows")
  own_rows.write(folder)
  (folder / "rewards.py").write_text(own_rows.REWARD)
  return folder


def command(objective, rows, workdir):
  recipe = RECIPES[objective]
  words = [
    *COMMAND,
    "train",
    f"--objective={objective}",
    f"--data={rows}/rows.jsonl",
    f"--workdir={workdir}",
    f"--steps={STEPS}",
    "--prompts=4",
    "--checkpoint_every=1",
    f"--keep_checkpoints={STEPS}",
    "--evaluation.samples=1",
  ]
  if recipe.sampled:
    words += ["--group=2", "--data.max_new_tokens=12"]
  if recipe.scored:
    words.append(f"--reward={rows}/rewards.py:reward")
  if recipe.teacher:
    words.append("--teacher_dir=nano-teacher")
  return words


def environment(cache):
  return {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}


def call(words, cache):
  done = subprocess.run(
    words, env=environment(cache), capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-4000:]
  return done.stdout


def kill_after(words, log, steps, cache):
  """Starts a run and kills it once it has logged so many steps."""
  child = subprocess.Popen(
    words,
    env=environment(cache),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  while child.poll() is None:
    if log.is_file() and len(log.read_text().splitlines()) >= steps:
      child.send_signal(signal.SIGKILL)
      break
    time.sleep(0.05)
  child.wait()
  return child.returncode


@pytest.mark.parametrize("objective", RECIPES)
def test_killed_resumed_exported_and_loaded(objective, rows, tmp_path):
  """SIGKILL in the middle changes no bit; transformers reads the result."""
  torch = pytest.importorskip("torch", reason="torch is the parity reference")
  import transformers
  from safetensors.numpy import load_file

  cache, folders = tmp_path / "cache", []
  for name in ("whole", "killed"):
    workdir, out = tmp_path / name, tmp_path / f"{name}-model"
    words = command(objective, rows, workdir)
    stage = workdir / "seed-0/run" / objective
    if name == "killed":
      killed = kill_after(words, stage / "metrics.jsonl", 2, cache)
      assert killed == -signal.SIGKILL
      assert not (workdir / "report.html").exists()
    said = call(words, cache)
    *_, printed, page = said.splitlines()
    assert page == f"{workdir}/report.html"
    printed = printed.split()  # the command that exports
    assert printed[:2] == ["jaxvlm", "export"]
    export = [word for word in printed[2:] if not word.startswith("--out")]
    call([*COMMAND, "export", *export, f"--out={out}"], cache)
    folders.append(out)
  logs = [
    [
      {k: v for k, v in json.loads(line).items() if not k.startswith("time/")}
      for line in (tmp_path / name / "seed-0/run" / objective / "metrics.jsonl")
      .read_text()
      .splitlines()
    ]
    for name in ("whole", "killed")
  ]
  assert logs[0] == logs[1] and logs[0][-1]["step"] == STEPS
  one, other = (load_file(f / "model.safetensors") for f in folders)
  before = load_file(assets.folder("nano-base") / "model.safetensors")
  assert one.keys() == other.keys()
  for name, tensor in one.items():
    np.testing.assert_array_equal(tensor, other[name])
  # Something was learned.
  assert any((one[name] != before[name]).any() for name in before)
  model, told = transformers.AutoModelForImageTextToText.from_pretrained(
    folders[0], dtype=torch.float32, output_loading_info=True
  )
  assert not told["missing_keys"] and not told["unexpected_keys"]
  assert model.num_parameters() > 0
