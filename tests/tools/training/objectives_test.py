"""Every objective, as a user runs it: killed, resumed, exported, loaded."""

import dataclasses
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxvlm import assets, journal, models
from jaxvlm.data import own
from jaxvlm.data.sources.geometry3k import INSTRUCTION
from jaxvlm.sharding import MeshConfig, make_mesh
from jaxvlm.tools import publish
from jaxvlm.tools.training.recipes import RECIPES
from jaxvlm.train.trained import load_trained
from tests import compiling
from tests.tools import own_rows

STEPS = 3
# The layout from which each objective is trained here, and flags. Layouts that
# it may be trained from besides give the same rows: see the test of layouts.
TRAINED = {
  "sft": ("prompt_completion", "--data.pack=160"),
  "sft_c": ("conversations",),
  "opd": ("prompt",),
  "dpo": ("preference", "--freeze_vision"),
  "cw_dpo": ("messages", "--lora_rank=2"),
  "focal_dpo": ("rows",),
  "grpo": ("verl",),
}


def command(objective, folder, workdir):
  recipe, (_, *more) = RECIPES[objective], TRAINED[objective]
  length = 12 if recipe.sampled else 160 if objective == "sft" else 20
  words = [
    *(sys.executable, "-m", "jaxvlm.tools.main", "train"),
    f"--objective={objective}",
    f"--data={folder}/rows.jsonl",
    f"--workdir={workdir}",
    f"--steps={STEPS}",
    "--prompts=4",
    "--checkpoint_every=1",
    f"--keep_checkpoints={STEPS}",
    # One shape: a bucket is a program to compile.
    "--data.prompt_tokens=40",
    "--data.patch_slots=32",
    f"--data.max_new_tokens={length}",
    *more,
  ]
  if recipe.sampled:
    words.append("--group=2")
  if recipe.scored:
    words.append(f"--reward={folder}/rewards.py:reward")
  if recipe.teacher:
    words.append("--teacher_dir=nano-teacher")
  return words


def environment():
  # Programs are kept in the run's folder; here small ones, too.
  kept = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
  return compiling.environment(**kept)


def call(words):
  done = subprocess.run(
    words, env=environment(), capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-4000:]
  return done.stdout


def kill_after(words, log, steps):
  """Starts a run and kills it once it has logged so many steps."""
  child = subprocess.Popen(
    words,
    env=environment(),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  while child.poll() is None:
    if log.is_file() and len(log.read_text().splitlines()) >= steps:
      child.send_signal(signal.SIGKILL)
      break
    time.sleep(0.01)
  child.wait()
  return child.returncode


@pytest.mark.slow
@pytest.mark.parametrize("objective", RECIPES)
def test_killed_resumed_exported_and_loaded(objective, tmp_path):
  """SIGKILL in the middle changes no bit; transformers reads the result."""
  torch = pytest.importorskip("torch", reason="torch is the parity reference")
  import transformers

  own_rows.write(tmp_path, layout=TRAINED[objective][0])
  (tmp_path / "rewards.py").write_text(own_rows.REWARD)
  killed, whole = tmp_path / "killed", tmp_path / "whole"
  stage = f"seed-0/run/{objective}"
  words = command(objective, tmp_path, killed)
  code = kill_after(words, killed / stage / "metrics.jsonl", 2)
  assert code == -signal.SIGKILL and not (killed / "report.html").exists()

  for workdir in (killed, whole):
    if workdir is whole:  # gets the programs, and nothing else
      shutil.copytree(killed / "xla", whole / "xla")
    said = call(command(objective, tmp_path, workdir))
    *_, export, page = said.splitlines()
    assert page == f"{workdir}/report.html"
    assert export.startswith("jaxvlm export --model_dir=")
    assert f"--checkpoints={workdir}/{stage}/checkpoints" in export
  logs = [
    [
      {k: v for k, v in record.items() if not k.startswith("time/")}
      for record in journal.read(workdir / stage / "metrics.jsonl")
    ]
    for workdir in (killed, whole)
  ]
  assert logs[0] == logs[1] and logs[0][-1]["step"] == STEPS

  mesh = make_mesh(MeshConfig(), jax.devices()[:1])
  base, out = assets.folder("nano-base"), tmp_path / "model"
  rules = models.partition_rules(models.read_config(base))
  one, other = (
    load_trained(workdir / stage / "checkpoints", mesh, rules)
    for workdir in (killed, whole)
  )
  assert one[:2] == other[:2] and one[0] == STEPS
  jax.tree.map(np.testing.assert_array_equal, one[2], other[2])

  publish.export(base, killed / stage / "checkpoints", out, mesh)
  _, before = models.load_pretrained(base)
  _, after = models.load_pretrained(out)
  pairs = zip(*map(jax.tree.leaves, (before, after)), strict=True)
  assert any((a != b).any() for a, b in pairs)  # something was learned
  model, told = transformers.AutoModelForImageTextToText.from_pretrained(
    out, dtype=torch.float32, output_loading_info=True
  )
  assert not told["missing_keys"] and not told["unexpected_keys"]
  assert model.num_parameters() > 0


CARRIED = {
  "rejected": ("rows", "messages", "conversations", "preference"),
  "response": ("prompt_completion",),
  "question": ("prompt", "verl", "geometry3k"),
}
FORMS = {
  own.pairs: CARRIED["rejected"],
  own.answered: CARRIED["rejected"] + CARRIED["response"],
  own.prompts: sum(CARRIED.values(), ()),
  own.problems: sum(CARRIED.values(), ()),
}


def test_every_layout_gives_an_objective_the_same_rows(tmp_path):
  """What is trained is a function of rows; layouts differ in names alone."""
  every = set(own_rows.LAYOUTS)
  assert every == {layout for layouts in FORMS.values() for layout in layouts}
  for name, recipe in RECIPES.items():
    form = recipe.form or own.problems  # as most rewards need
    assert TRAINED[name][0] in FORMS[form]
  for layout in every:
    file = own_rows.write(tmp_path, 4, f"{layout}.jsonl", layout=layout)
    for form, layouts in FORMS.items():
      if layout not in layouts:
        with pytest.raises(ValueError, match="none of 4 records"):
          own.read(file, form)
        continue
      table = own.read(file, form)
      assert table.layout == layout and not table.dropped
      wanted = own.read(own_rows.write(tmp_path, 4), form).rows
      for row, same in zip(table.rows, wanted, strict=True):
        if layout == "geometry3k":  # its recipe asks for a box
          same = dataclasses.replace(same, question=same.question + INSTRUCTION)
        given = {"id": same.id, "group": same.group}
        assert dataclasses.replace(row, **given) == same
