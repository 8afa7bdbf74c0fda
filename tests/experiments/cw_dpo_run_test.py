"""The study of SFT-C and CW-DPO on photographs, end to end."""

import dataclasses
import json
import math

import numpy as np
import pytest
from PIL import Image

from experiments.cw_dpo import config as configs
from experiments.cw_dpo import run
from jaxvlm import journal
from jaxvlm.data import scenes
from jaxvlm.diagnostics.probes import CLASSES
from jaxvlm.study import main
from jaxvlm.study.config import Scale
from jaxvlm.study.probing import ProbeConfig
from tests.data import pack
from tests.experiments.stage1_folders import official


def coco(folder):
  """Returns the pack's four pictures, or a folder of our own like it."""
  if (real := pack.SHARED / "coco").is_dir():
    return real
  folder.mkdir()
  records = []
  for number in range(4):
    scene = scenes.sample(scenes.TRAIN, number)
    Image.fromarray(scene.image).save(folder / f"{number}.png")
    records.append(
      {
        "image_id": number,
        "file": f"{number}.png",
        "karpathy_split": "test",
        "captions": list(scene.references),
      }
    )
  (folder / "images.json").write_text(json.dumps(records))
  return folder


def settings(model, data):
  """The laptop's study, two steps a stage, of three arms on four pictures."""
  c = configs.SCALES[Scale.LAPTOP]()
  replace = dataclasses.replace
  return replace(
    c,
    dataset=configs.Dataset.COCO,
    model_dir=str(model),
    data_dir=str(data),
    # A floor above what a random model gives its negatives: λ has to climb.
    stage1=replace(c.stage1, steps=2, prompts=2, evaluate_every=2, floor=20.0),
    stage2=replace(c.stage2, steps=2, prompts=2),
    data=replace(c.data, split="test", max_new_tokens=48, max_dropped=0.5),
    evaluation=replace(
      c.evaluation, every=2, pictures=2, samples=2, prompts=2, split="test"
    ),
    probes=ProbeConfig(problems=2, every=1),
    arms=("sft_c_cw_dpo", "hard", "sampled"),
  )


@pytest.mark.slow
def test_photographs_take_steps_of_sft_c_and_cw_dpo(tmp_path):
  """The real tokenizer, a tiny random model, the study's own command."""
  official(tmp_path / "model", pack.SHARED)
  workdir = tmp_path / "study"
  config = settings(tmp_path / "model", coco(tmp_path / "coco"))
  page = main.execute(run.STUDY, config, workdir)
  assert "Where a pair" in page.read_text()
  for folder in ("sft_c/stage1", "sft_c_cw_dpo/stage2"):
    where = workdir / "seed-0" / folder
    records = journal.read(where / "metrics.jsonl")
    assert [r["step"] for r in records] == [0, 1, 2]
    for record in records:
      for name in CLASSES:
        assert math.isfinite(record[f"probe/shift/{name}"])
      assert 0 <= record["probe/ece"] <= 1
    assert records[0]["probe/shift/chosen"] == pytest.approx(0, abs=1e-4)
    assert "eval/validation/CIDEr" in records[-1]
    assert records[-1]["guard/skipped"] == 0
  # λ climbs from 0, by what the negatives lack to the floor.
  hard = journal.read(workdir / "seed-0/sft_hard/stage1/metrics.jsonl")
  gap = config.stage1.floor - hard[1]["loss/nll_negative"]
  expected = max(0.0, config.stage1.ascent * gap)
  assert hard[1]["loss/multiplier"] == pytest.approx(expected, abs=1e-4)
  own = journal.read(workdir / "seed-0/sampled/stage2/metrics.jsonl")
  assert own[1]["negatives/policy"] == 1
  assert {"loss/nll_negative"} <= journal.read(
    workdir / "seed-0/sft_c/stage1/metrics.jsonl"
  )[1].keys()
  assert {"policy/cooling_weight"} <= records[1].keys()
  margins = np.load(where / "margins-00002.npz")
  assert (margins["grad_chosen"] > 0).all()
  # The reference of Stage 2 is the policy after Stage 1, not the base.
  assert np.abs(margins["chosen"] - margins["ref_chosen"]).max() < 1.0
