"""What a dry run refuses: every field of the study, by a table and by kind."""

import dataclasses
import typing

import pytest

from experiments.stage1_entropy import config as settings
from experiments.stage1_entropy.config import Dataset, StudyConfig
from jaxvlm import assets, models
from jaxvlm.sharding import MeshConfig
from jaxvlm.study import checks

NAN, INF = float("nan"), float("inf")


def changed(config: typing.Any, path: str, value: typing.Any) -> typing.Any:
  """Returns `config` with the field at a dotted path replaced."""
  name, _, rest = path.partition(".")
  if rest:
    value = changed(getattr(config, name), rest, value)
  return dataclasses.replace(config, **{name: value})


def leaves(config: typing.Any, prefix: str = ""):
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    path = f"{prefix}{field.name}"
    if dataclasses.is_dataclass(value):
      yield from leaves(value, f"{path}.")
    else:
      yield path, value


@pytest.mark.parametrize("scale", [settings.laptop, settings.colab])
def test_shipped_settings_pass(scale, tmp_path):
  config = dataclasses.replace(scale(), data_dir=str(tmp_path))
  settings.check(config)
  settings.check(settings.quick(config))


# Fields for which the number is a setting.
_ALLOWED = {
  "mesh.data": -1,  # all the rest of the devices; fsdp gives it up here
  "mesh.fsdp": -1,
  "mesh.tensor": -1,
}


@pytest.mark.parametrize(
  "path",
  [path for path, value in leaves(settings.laptop()) if type(value) is int],
)
def test_minus_one_is_refused_wherever_it_is_no_setting(path):
  config = changed(settings.laptop(), "mesh", MeshConfig(1, 1, 1))
  config = changed(config, path, -1)
  if path in _ALLOWED:
    settings.check(config)
    return
  with pytest.raises(ValueError, match=path.rpartition(".")[2]):
    settings.check(config)


@pytest.mark.parametrize("value", [NAN, INF, -0.5])
@pytest.mark.parametrize(
  "path",
  [path for path, value in leaves(settings.laptop()) if type(value) is float],
)
def test_no_float_field_takes_what_is_no_number_of_its_range(path, value):
  if (path, value) in {("grpo.clip_high", INF)}:  # never clips from above
    return
  with pytest.raises(ValueError, match=path.rpartition(".")[2]):
    settings.check(changed(settings.laptop(), path, value))


@pytest.mark.parametrize(
  ("path", "value", "message"),
  [
    ("grpo.temperature", 0.0, "grpo.temperature is 0.0, expected > 0"),
    ("opd.temperature", 0.0, "opd.temperature is 0.0"),
    ("grpo.temperature", 1e-42, "grpo.temperature is 1e-42"),
    ("opd.temperature", 1e-50, "opd.temperature"),
    ("evaluation.temperature", 1e-42, "evaluation: sampling: temperature"),
    ("grpo.clip_low", 2.0, "grpo.clip_low is 2.0, expected 0 to 1"),
    ("grpo.kl_coef", -0.1, "grpo.kl_coef is -0.1"),
    ("grpo.optimizer.clip_norm", 0.0, "grpo.optimizer.clip_norm is 0.0"),
    ("opd.optimizer.clip_norm", 1e-46, "opd.optimizer.clip_norm"),
    ("opd.optimizer.peak_lr", 0.0, "peak_lr is 0.0, expected a positive"),
    ("opd.optimizer.peak_lr", 1e-50, "opd.optimizer.peak_lr"),
    ("grpo.optimizer.b2", 1.0, "grpo.optimizer.b2 is 1.0"),
    ("grpo.optimizer.b2", 1 - 1e-9, "below 1 in float32"),
    ("sft_early.optimizer.b1", 1.5, "sft_early.optimizer.b1 is 1.5"),
    ("sft_over.optimizer.end_lr", 1.0, "sft_over.optimizer.end_lr is 1.0"),
    ("grpo.group", 1, "grpo.group is 1, expected at least 2"),
    ("grpo.micro_batches", 0, "grpo.micro_batches is 0"),
    ("grpo.micro_batches", 5, "expected a multiple of grpo.micro_batches, 5"),
    ("grpo.minibatches", 0, "grpo.minibatches is 0"),
    ("grpo.minibatches", 7, "a multiple of grpo.minibatches, 7, times grpo"),
    ("grpo.carry", 4, "grpo.carry is 4 with grpo.slots.rows 0"),
    ("opd.steps", 0, "opd.steps is 0"),
    ("keep_checkpoints", 0, "keep_checkpoints is 0"),
    ("seeds", 0, "seeds 0, expected at least one"),
    ("first_seed", 2**32, "would repeat a smaller one"),
    ("evaluation.samples", 0, "evaluation.samples is 0"),
    ("data.min_pixels", 10**6, "data.min_pixels is 1000000 and max_pixels"),
    ("data.min_pixels", 0, "data.min_pixels is 0"),
    ("data.max_new_tokens", 0, "data.max_new_tokens is 0"),
    ("data.max_dropped", 1.01, "data.max_dropped is 1.01"),
    ("data.prompt_tokens", (), "data.prompt_tokens has 0 buckets"),
    ("data.prompt_tokens", (56, 80), "has 2 buckets and data.patch_slots 1"),
    ("data.prompt_tokens", (0,), "data.a bucket has 0 prompt_tokens"),
    ("data.patch_slots", (-4,), "-4 patch_slots"),
    ("data.trace_style", "prose", "data.trace_style: styles are"),
    ("arms", (), "arms"),
    ("arms", ("opd", "dpo"), "'dpo'"),
    ("arms", ("opd", "opd"), "each at most once"),
    ("model_dir", "/no/such/folder", "model_dir is '/no/such/folder'"),
    ("teacher_dir", "/no/such/folder", "teacher_dir is"),
    ("dataset", Dataset.GEOMETRY3K, "data_dir is empty"),
    ("lora_alpha", 0.0, "lora_alpha is 0.0"),
    ("mesh", MeshConfig(-1, -1, 1), "at most one -1"),
    ("mesh", MeshConfig(0, 1, 1), "mesh.data is 0"),
  ],
)
def test_refused_by_name(path, value, message):
  with pytest.raises(ValueError, match=message):
    settings.check(changed(settings.laptop(), path, value))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"evaluation.in_domain": 0, "evaluation.out_of_domain": 0},
      "expected problems to measure",
    ),
    ({"evaluation.in_domain": 0, "keep_best": 1}, "keep_best is 1"),
    ({"first_seed": 2**32 - 2, "seeds": 3}, "first_seed is 4294967294"),
    (
      {"data.prompt_tokens": (80, 56), "data.patch_slots": (64, 64)},
      r"\(80, 64\) is followed by \(56, 64\)",
    ),
    (
      {"data.prompt_tokens": (56, 80), "data.patch_slots": (64, 32)},
      "expected none to shrink",
    ),
    ({"grpo.carry": -1, "grpo.slots.rows": 4}, "grpo.carry is -1"),
  ],
)
def test_settings_that_do_not_go_together(changes, message):
  config = settings.laptop()
  for path, value in changes.items():
    config = changed(config, path, value)
  with pytest.raises(ValueError, match=message):
    settings.check(config)


def test_settings_at_the_ends_of_their_ranges_pass():
  config = settings.laptop()
  for path, value in {
    "evaluation.temperature": 0.0,  # argmax
    "evaluation.out_of_domain": 0,
    "evaluation.every": 1,
    "grpo.kl_coef": 0.0,
    "grpo.clip_low": 0.0,
    "grpo.clip_high": INF,
    "grpo.optimizer.b1": 0.0,
    "grpo.optimizer.weight_decay": 0.0,
    "grpo.optimizer.clip_norm": 1e9,
    "data.max_dropped": 0.0,
    "data.min_pixels": config.data.max_pixels,
    "first_seed": 2**32 - 1,
    "keep_best": 0,
  }.items():
    config = changed(config, path, value)
  settings.check(config)


def test_a_rank_beyond_the_matrices_is_refused():
  student = models.check_pretrained(assets.folder("nano-base"))
  config: StudyConfig = changed(settings.laptop(), "lora_rank", 4)
  checks.check_adapters(config, student)
  with pytest.raises(ValueError, match="lora_rank is 9999, expected 1 to"):
    checks.check_adapters(changed(config, "lora_rank", 9999), student)


def test_a_tower_that_the_student_has_not_cannot_be_frozen():
  config: StudyConfig = changed(settings.laptop(), "freeze_vision", True)
  checks.check_frozen(config, models.PRESETS["3b"])
  with pytest.raises(ValueError, match="freeze_vision.*qwen2 has no vision"):
    checks.check_frozen(config, models.PRESETS["qwen2.5-coder-3b"])
