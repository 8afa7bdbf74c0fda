"""The study's command on real pictures: adapters, and the large scales."""

import math
import re
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxvlm import journal
from jaxvlm.data import chat
from jaxvlm.models import qwen2_5_vl
from tests import tiny
from tests.data import pack
from tests.experiments.stage1_command import TINY
from tests.experiments.stage1_folders import folders


@pytest.mark.slow
@pytest.mark.parametrize(
  "source",
  [pytest.param(None, id="made"), pytest.param(pack.SHARED, id="pack")],
)
def test_adapters_are_trained_on_real_pictures(tmp_path, finish, source):
  """LoRA on a frozen tower, an 8-bit teacher: SFT, then GRPO goes on."""
  study = tmp_path / "study"
  code, output = finish(
    *TINY,
    *folders(tmp_path, source),
    "--arms=sft_early",
    "--grpo.carry=0",
    "--grpo.slots.rows=0",
    "--lora_rank=2",
    "--freeze_vision",
    "--int8_teacher",
    "--evaluation.every=3",
    "--data.traces=12",
    "--data.train_problems=12",
    "--data.prompt_tokens=96,160",
    "--data.patch_slots=64,144",
    "--data.min_pixels=3136",
    "--data.max_pixels=25088",
    "--data.max_new_tokens=160",
    "--data.max_dropped=0.2",
    "--evaluation.max_missing=0.5",
    f"--workdir={study}",
  )
  assert code == 0, output
  trees = []
  for stage in ("seed-0/sft_early/stage1", "seed-0/sft_early/grpo"):
    log = journal.read(study / stage / "metrics.jsonl")
    assert [r["step"] for r in log] == [0, 1, 2, 3]
    for record in log[1:]:
      assert np.isfinite(record["loss/total"])
      assert record["guard/skipped"] == 0
    assert log[-1]["eval/in_domain/length"] > 0
    checkpoints = study / stage / "checkpoints"
    arrays = ocp.StandardCheckpointer().restore(checkpoints / "3")
    trees.append({k: v for k, v in arrays.items() if k.startswith("trainable")})
    assert trees[-1]
    assert all(
      re.search("model.*lora_(a|b|scale)$", name) for name in trees[-1]
    )
  first = journal.read(study / "seed-0/sft_early/stage1/metrics.jsonl")[1]
  # Random weights know nothing.
  model = tmp_path / "official"
  words = chat.load(model, tiny.CONFIG.layout).vocab_size
  assert first["policy/entropy"] == pytest.approx(math.log(words), abs=0.3)
  assert trees[0].keys() == trees[1].keys()
  moved = [np.abs(trees[1][n] - trees[0][n]).max() for n in trees[0]]
  assert max(moved) > 0
  b = [x for n, x in trees[0].items() if "lora_b" in n]
  assert max(np.abs(x).max() for x in b) > 0  # they begin at 0
  merged = tmp_path / "merged"
  done = subprocess.run(
    [
      *(sys.executable, "-m", "jaxvlm.tools.main", "export"),
      f"--model_dir={model}",
      f"--checkpoints={checkpoints}",
      f"--out={merged}",
    ],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  old, new = (qwen2_5_vl.load_pretrained(f)[1] for f in (model, merged))
  changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), old, new)
  assert not any(jax.tree.leaves(changed["visual"]))
  assert changed["model"]["layers"]["q_proj"]["kernel"]


@pytest.mark.parametrize("scale", ["colab", "pod"])
def test_dry_run_of_the_large_scales(tmp_path, finish, pictures, scale):
  code, output = finish(
    "--scale",
    scale,  # absl takes a value in a word of its own, too
    *pictures,
    "--dry_run",
    "--evaluation.in_domain=2",
    f"--workdir={tmp_path}",
  )
  assert code == 0, output
  assert "usable" in output
  # Nothing that an earlier study wrote is touched.
  assert not (tmp_path / "config.json").exists()
