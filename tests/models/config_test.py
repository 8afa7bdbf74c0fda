"""config.json of Qwen2.5-VL: published files, round trips, refusals."""

import dataclasses
import json
import pathlib

import pytest

from jaxvlm.models.qwen2_5_vl import Config, VisionConfig, presets

PUBLISHED = pathlib.Path(__file__).parents[3] / "shared/data/model_configs"
published = pytest.mark.skipif(
  not PUBLISHED.is_dir(), reason=f"{PUBLISHED} is absent: published config.json"
)


@published
def test_published_3b():
  config = Config.from_folder(PUBLISHED / "Qwen2.5-VL-3B-Instruct")
  # The dataclass defaults are the 3B model.
  assert config == Config()
  assert config.head_dim == 128
  assert (config.num_hidden_layers, config.hidden_size) == (36, 2048)
  assert (config.num_attention_heads, config.num_key_value_heads) == (16, 2)
  assert (config.vocab_size, config.tie_word_embeddings) == (151936, True)
  assert config.mrope_section == (16, 24, 24)


@published
def test_published_7b():
  config = Config.from_folder(PUBLISHED / "Qwen2.5-VL-7B-Instruct")
  assert config.head_dim == 128
  assert (config.num_hidden_layers, config.hidden_size) == (28, 3584)
  assert (config.num_attention_heads, config.num_key_value_heads) == (28, 4)
  assert (config.vocab_size, config.tie_word_embeddings) == (152064, False)
  assert config.intermediate_size == 18944
  assert config.vision == VisionConfig(out_hidden_size=3584)
  assert config.layout.window_slots == 64
  assert config.layout.patch_values == 1176


@published
@pytest.mark.parametrize("size", ["3B", "7B"])
def test_reading_what_was_written_is_identity(size):
  config = Config.from_folder(PUBLISHED / f"Qwen2.5-VL-{size}-Instruct")
  text = json.dumps(config.to_dict())
  assert Config.from_dict(json.loads(text)) == config


@published
@pytest.mark.parametrize("size", ["3B", "7B"])
def test_transformers_reads_the_same_from_ours(tmp_path, size):
  from tests.reference import hf

  folder = PUBLISHED / f"Qwen2.5-VL-{size}-Instruct"
  ours = Config.from_folder(folder)
  (tmp_path / "config.json").write_text(json.dumps(ours.to_dict()))
  want = hf.reference.Qwen2_5_VLConfig.from_pretrained(folder)
  got = hf.reference.Qwen2_5_VLConfig.from_pretrained(tmp_path)
  for name in (f.name for f in dataclasses.fields(Config)):
    if hasattr(want.text_config, name):
      assert getattr(got.text_config, name) == getattr(want.text_config, name)
  for name in (f.name for f in dataclasses.fields(VisionConfig)):
    theirs = getattr(want.vision_config, name)
    assert getattr(got.vision_config, name) == theirs
  rope = want.text_config.rope_parameters
  assert got.text_config.rope_parameters == rope
  assert got.tie_word_embeddings == want.tie_word_embeddings
  # And the nested form that transformers 5 writes reads back the same.
  want.save_pretrained(tmp_path)
  assert Config.from_folder(tmp_path) == ours


def raw(**fields):
  return Config().to_dict() | fields


def test_wrong_model_type():
  with pytest.raises(ValueError, match=r"'llama', expected\s+'qwen2_5_vl'"):
    Config.from_dict(raw(model_type="llama"))


def test_unknown_field():
  with pytest.raises(
    ValueError, match=r"config.json has unknown.*'sparse_moe'"
  ):
    Config.from_dict(raw(sparse_moe=4))


def test_unknown_vision_field():
  vision = raw()["vision_config"] | {"deepstack_indexes": [1]}
  with pytest.raises(ValueError, match=r"vision_config.*'deepstack_indexes'"):
    Config.from_dict(raw(vision_config=vision))


@pytest.mark.parametrize("section", [[16, 24, 25], [32, 32], [16, 16, 16, 16]])
def test_bad_mrope_section(section):
  rope = {"type": "mrope", "mrope_section": section}
  with pytest.raises(ValueError, match=r"mrope_section .* = 64"):
    Config.from_dict(raw(rope_scaling=rope))


@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_long_context_scaling(key):
  rope = {key: "yarn", "factor": 4, "mrope_section": [16, 24, 24]}
  with pytest.raises(ValueError, match=r"rope_scaling.*yarn.*not supported"):
    Config.from_dict(raw(rope_scaling=rope))


def test_both_rope_types_must_be_supported():
  rope = {"type": "mrope", "rope_type": "yarn", "mrope_section": [16, 24, 24]}
  with pytest.raises(ValueError, match="yarn"):
    Config.from_dict(raw(rope_scaling=rope))


def test_sliding_window():
  with pytest.raises(ValueError, match="use_sliding_window true"):
    Config.from_dict(raw(use_sliding_window=True))


@pytest.mark.parametrize("part", ["text", "vision"])
def test_other_activations(part):
  fields = raw()
  (fields if part == "text" else fields["vision_config"])["hidden_act"] = "relu"
  with pytest.raises(ValueError, match=f"{part} hidden_act 'relu'.*'silu'"):
    Config.from_dict(fields)


def test_quantized_checkpoints():
  with pytest.raises(ValueError, match=r"quantization_config.*awq"):
    Config.from_dict(raw(quantization_config={"quant_method": "awq"}))


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"num_attention_heads": 15}, "hidden_size 2048 .* 15 heads"),
    ({"num_key_value_heads": 3}, "16 .*num_key_value_heads 3"),
    ({"vision": VisionConfig(num_heads=64 * 8)}, "hidden_size 1280 .* 512"),
    ({"vision": VisionConfig(out_hidden_size=64)}, "out_hidden_size 64 .*2048"),
  ],
)
def test_widths_that_do_not_fit(fields, message):
  with pytest.raises(ValueError, match=message):
    Config(**fields)


@pytest.mark.parametrize("kv_heads", [0, -1])
def test_no_kv_heads(kv_heads):
  with pytest.raises(ValueError, match=f"num_key_value_heads {kv_heads}"):
    Config(num_key_value_heads=kv_heads)


@pytest.mark.parametrize("name", ["rms_norm_eps", "rope_theta", "window_size"])
def test_missing_field(name):
  fields = raw()
  for part in (fields, fields["vision_config"]):
    part.pop(name, None)
  with pytest.raises(ValueError, match=rf"lacks.*'{name}'"):
    Config.from_dict(fields)


@pytest.mark.parametrize("outer, inner", [(True, False), (False, True)])
def test_tied_in_either_place_is_tied(outer, inner):
  text = {"tie_word_embeddings": inner}
  fields = raw(tie_word_embeddings=outer, text_config=text)
  assert Config.from_dict(fields).tie_word_embeddings


@published
@pytest.mark.parametrize("size", ["3B", "7B"])
def test_presets_are_the_published_files(size):
  preset = {"3B": presets.QWEN_3B, "7B": presets.QWEN_7B}[size]
  assert preset == Config.from_folder(PUBLISHED / f"Qwen2.5-VL-{size}-Instruct")


@published
@pytest.mark.parametrize("size", ["32B", "72B"])
def test_presets_have_the_known_dimensions(size):
  preset = {"32B": presets.QWEN_32B, "72B": presets.QWEN_72B}[size]
  file = PUBLISHED / "larger_models_dims.json"
  known = json.loads(file.read_text())[f"Qwen2.5-VL-{size}-Instruct"]
  for part, fields in (
    (preset, known["text"]),
    (preset.vision, known["vision"]),
  ):
    for name, value in fields.items():
      if value is not None:  # not known for certain
        assert getattr(part, name) == value, name
