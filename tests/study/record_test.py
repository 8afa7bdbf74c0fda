"""What a start with the same workdir may change, and what it is told."""

import dataclasses
import json
import os

import pytest

from experiments.stage1_entropy import config
from experiments.stage1_entropy.run import STUDY
from jaxvlm.study import record

replace = dataclasses.replace
LAPTOP = config.laptop()


def with_steps(study, **steps):
  return replace(
    study,
    **{
      name: replace(getattr(study, name), steps=count)
      for name, count in steps.items()
    },
  )


def decaying(study, name, decay_steps):
  stage = getattr(study, name)
  optimizer = replace(stage.optimizer, decay_steps=decay_steps)
  return replace(study, **{name: replace(stage, optimizer=optimizer)})


def saved_in(folder):
  return json.loads((folder / "config.json").read_text())


def test_the_last_stage_may_grow(tmp_path, caplog):
  record.write(LAPTOP, tmp_path)
  assert record.check(LAPTOP, tmp_path) == [] == saved_in(tmp_path)["changes"]
  begun = tmp_path / "seed-0/opd/grpo/checkpoints/manifest-60.json"
  begun.parent.mkdir(parents=True)
  begun.touch()
  longer = with_steps(LAPTOP, grpo=90)
  (note,) = record.check(longer, tmp_path)
  assert "grpo.steps is 60 there, 90 here" in note
  assert "the evaluation at step 60 stays" in note
  assert saved_in(tmp_path)["grpo"]["steps"] == 60  # checking writes nothing
  record.write(longer, tmp_path)
  assert note in caplog.text and saved_in(tmp_path)["changes"] == [note]
  record.write(longer, tmp_path)  # told once, kept
  assert saved_in(tmp_path)["changes"] == [note]
  assert saved_in(tmp_path)["grpo"]["steps"] == 90
  with pytest.raises(ValueError, match="lengthened, not shortened; give 90"):
    record.check(LAPTOP, tmp_path)


def test_a_checkpoint_does_not_know_the_length_of_its_stage():
  same = [
    with_steps(LAPTOP, grpo=90, opd=7, sft_early=8, sft_over=9),
    replace(LAPTOP, arms=("opd",), seeds=3, first_seed=2),
    replace(LAPTOP, mesh=replace(LAPTOP.mesh, tensor=2)),
  ]
  assert {record.digest(s) for s in same} == {record.digest(LAPTOP)}
  other = replace(LAPTOP, grpo=replace(LAPTOP.grpo, prompts=25))
  assert record.digest(other) != record.digest(LAPTOP)


def test_a_warm_start_may_grow_until_its_rl_has_begun(tmp_path):
  record.write(LAPTOP, tmp_path)
  longer = with_steps(LAPTOP, sft_early=100)
  for other in ("seed-1/opd", "seed-0/sft_over"):  # not of this arm
    manifest = tmp_path / other / "grpo/checkpoints/manifest-20.json"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
  (note,) = record.check(longer, tmp_path, followed_by=STUDY.followed_by)
  assert "sft_early.steps is 80 there, 100 here" in note
  manifest = tmp_path / "seed-1/sft_early/grpo/checkpoints/manifest-20.json"
  manifest.parent.mkdir(parents=True)
  manifest.touch()
  with pytest.raises(
    ValueError, match="seed-1/sft_early/grpo has begun where sft_early ends"
  ):
    record.check(longer, tmp_path, followed_by=STUDY.followed_by)


def test_a_decay_that_would_be_another_is_refused(tmp_path):
  decay = decaying(LAPTOP, "grpo", 85)  # after 5 of warm-up: to step 90
  record.write(decay, tmp_path)
  assert record.check(with_steps(decay, grpo=90), tmp_path)
  with pytest.raises(ValueError, match="decayed to its end after step 90"):
    record.check(with_steps(decay, grpo=91), tmp_path)
  longer = with_steps(decaying(LAPTOP, "grpo", 115), grpo=120)
  with pytest.raises(ValueError, match="decay_steps 85 there, 115 here"):
    record.check(longer, tmp_path)
  # Without another length it is another setting like any.
  with pytest.raises(ValueError, match=r"grpo\.optimizer\.decay_steps is 85"):
    record.check(decaying(LAPTOP, "grpo", 115), tmp_path)


def test_other_settings_are_refused_beside_a_length(tmp_path):
  record.write(LAPTOP, tmp_path)
  changed = with_steps(replace(LAPTOP, keep_checkpoints=5), grpo=90)
  with pytest.raises(ValueError) as caught:
    record.check(changed, tmp_path)
  assert "keep_checkpoints is 2 there, 5 here" in str(caught.value)
  assert "grpo.steps" not in str(caught.value)


def test_a_run_from_before_a_setting_goes_on(tmp_path):
  record.write(LAPTOP, tmp_path)
  found = saved_in(tmp_path)
  del found["grpo"]["minibatches"]  # as it was before there were any
  (tmp_path / "config.json").write_text(json.dumps(found))
  assert record.check(LAPTOP, tmp_path) == []
  several = replace(LAPTOP, grpo=replace(LAPTOP.grpo, minibatches=2))
  with pytest.raises(ValueError, match=r"grpo\.minibatches is 1 there, 2 here"):
    record.check(several, tmp_path)
  assert record.digest(several) != record.digest(LAPTOP)


def test_another_mesh_goes_on_and_says_what_is_lost(tmp_path):
  record.write(LAPTOP, tmp_path)
  other = replace(LAPTOP, mesh=replace(LAPTOP.mesh, tensor=2))
  (note,) = record.check(other, tmp_path)
  assert "mesh.tensor is 1 there, 2 here" in note
  assert "up to rounding, and no longer to the bit" in note
  record.write(other, tmp_path)
  assert record.check(other, tmp_path) == []


def test_progress_names_the_newest_save(tmp_path):
  assert record.progress(tmp_path) == "no step is saved yet"
  saves = ("stage1", 120), ("grpo", 20), ("grpo", 40)
  for number, (stage, step) in enumerate(saves):
    name = f"seed-0/opd/{stage}/checkpoints/manifest-{step}.json"
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, ns=(number * 10**9, number * 10**9))
  assert record.progress(tmp_path) == "step 40 of seed-0/opd/grpo is saved"


@pytest.mark.parametrize(
  "first,count", [(-1, 1), (2**32, 1), (2**32 - 2, 3), (2**40, 1)]
)
def test_seeds_that_another_seed_would_repeat_are_refused(first, count):
  config.check(replace(LAPTOP, first_seed=2**32 - 2, seeds=2))
  with pytest.raises(ValueError, match="first_seed.*seeds.*32 bits"):
    config.check(replace(LAPTOP, first_seed=first, seeds=count))
