"""The rank-inversion study end to end, in little."""

import dataclasses

import numpy as np
import pytest

from experiments.rank_inversion import config
from experiments.rank_inversion.design import DEEP, SHALLOW, SMOOTH, Arm
from experiments.rank_inversion.run import STUDY
from jaxvlm import journal
from jaxvlm.rewards.code import Level
from jaxvlm.study import main

ARMS = (Arm("weak", SHALLOW), Arm("weak", DEEP), SMOOTH)


def _settings():
  c = config.quick(config.laptop())
  sft = dataclasses.replace(c.sft, steps=6, prompts=4)
  return dataclasses.replace(
    c,
    sft=sft,
    sft_smooth=sft,
    # Nothing is smoothed: that arm is then the deep one, trained in one go.
    label_smoothing=0.0,
    grpo=dataclasses.replace(c.grpo, steps=1, prompts=2, group=2),
    data=dataclasses.replace(
      c.data, traces=16, train_problems=4, least_passes=0, most_passes=16
    ),
    evaluation=dataclasses.replace(
      c.evaluation, problems=4, prompts=4, samples=2, deep_samples=4
    ),
    arms=tuple(arm.name for arm in ARMS),
    sandbox=Level.RLIMITS,
    scan_layers=True,
  )


@pytest.mark.slow
def test_rungs_are_checkpoints_of_one_run_and_the_study_resumes(tmp_path):
  path = main.execute(STUDY, _settings(), tmp_path)
  shallow, deep, smooth = (tmp_path / "seed-0" / arm.name for arm in ARMS)
  one, other = (
    np.load(folder / "grpo/eval/deep-00000.npz") for folder in (deep, smooth)
  )
  assert one.files == other.files
  for name in one.files:
    np.testing.assert_array_equal(one[name], other[name])
  records = journal.read(deep / "sft/metrics.jsonl")
  assert [r["step"] for r in records if "loss/nll" in r] == [*range(1, 7)]
  page = path.read_text()
  assert "Preconditions" in page and "weak 5.8, label smoothing" in page
  before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npz")}
  assert main.execute(STUDY, _settings(), tmp_path) == path
  assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npz")}
  assert (shallow / "grpo/samples.json").is_file()
