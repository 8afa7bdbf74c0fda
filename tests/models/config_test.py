"""config.json of Qwen2.5-VL: published files, round trips, refusals."""

import dataclasses
import json
import logging
import pathlib

import pytest

from jaxvlm.models.qwen2_5_vl import Config, VisionConfig, presets

PUBLISHED = pathlib.Path(__file__).parents[3] / "shared/data/model_configs"
published = pytest.mark.skipif(
  not PUBLISHED.is_dir(),
  reason="shared data absent: ../shared/data/model_configs",
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
def test_what_is_read_is_written_as_it_stood(size):
  file = PUBLISHED / f"Qwen2.5-VL-{size}-Instruct/config.json"
  raw = json.loads(file.read_text())
  config = Config.from_folder(file.parent)
  assert json.dumps(config.to_dict()) == json.dumps(raw)  # order, too
  assert config.to_dict()["vision_config"]["tokens_per_second"] == 2
  changed = dataclasses.replace(
    config,
    vocab_size=7,
    tie_word_embeddings=not config.tie_word_embeddings,
    rope_theta=5.0,
    mrope_section=(24, 20, 20),
    vision=dataclasses.replace(config.vision, fullatt_block_indexes=(3,)),
  )
  raw |= {"vocab_size": 7, "rope_theta": 5.0}
  raw["tie_word_embeddings"] = not raw["tie_word_embeddings"]
  raw["rope_scaling"]["mrope_section"] = [24, 20, 20]
  raw["vision_config"]["fullatt_block_indexes"] = [3]
  assert changed.to_dict() == raw
  assert Config.from_dict(changed.to_dict()) == changed


def test_the_nested_form_is_written_as_it_stood():
  config = Config.from_dict(nested())
  assert config == Config() and config.to_dict() == nested()
  changed = dataclasses.replace(
    config, tie_word_embeddings=False, image_token_id=9, rope_theta=5.0
  )
  expected = nested()
  expected |= {"tie_word_embeddings": False, "image_token_id": 9}
  expected["text_config"]["tie_word_embeddings"] = False
  expected["text_config"]["rope_parameters"]["rope_theta"] = 5.0
  assert changed.to_dict() == expected
  assert Config.from_dict(changed.to_dict()) == changed


def test_where_a_config_was_read_makes_no_difference():
  from jaxvlm import config as configs

  read = Config.from_dict(nested())
  assert hash(read) == hash(Config()) and repr(read) == repr(Config())
  assert configs.digest(read) == configs.digest(Config())


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
  assert got.to_dict() == want.to_dict()
  assert got.vision_config.tokens_per_second == 2
  # And the nested form that transformers 5 writes reads back the same.
  want.save_pretrained(tmp_path)
  again = Config.from_folder(tmp_path)
  assert again == ours
  assert again.to_dict() == json.loads((tmp_path / "config.json").read_text())


def raw(**fields):
  return Config().to_dict() | fields


def test_wrong_model_type():
  with pytest.raises(ValueError, match=r"'llama', expected\s+'qwen2_5_vl'"):
    Config.from_dict(raw(model_type="llama"))


def test_unknown_fields_are_named_and_kept(caplog):
  fields = raw(sparse_moe=4)
  fields["vision_config"]["deepstack_indexes"] = [1]
  with caplog.at_level(logging.WARNING):
    config = Config.from_dict(fields, "a/config.json")
  assert config == Config() and config.to_dict() == fields
  (record,) = caplog.records
  assert (
    "a/config.json has unknown field(s)"
    " ['sparse_moe', 'vision_config.deepstack_indexes']" in record.getMessage()
  )


@published
def test_published_files_have_no_unknown_field(caplog):
  for size in ("3B", "7B"):
    Config.from_folder(PUBLISHED / f"Qwen2.5-VL-{size}-Instruct")
  assert not caplog.records


@pytest.mark.parametrize(
  "changes",
  [
    {"factor": 4.0},  # of a rule that is not named
    {"beta_fast": 32, "rope_type": "default"},
    {"partial_rotary_factor": 0.5},
    {"mrope_interleaved": True},
  ],
)
@pytest.mark.parametrize("place", ["rope_scaling", "rope_parameters"])
def test_unknown_rotary_settings(place, changes):
  fields = raw()
  rope = fields.pop("rope_scaling") | changes
  with pytest.raises(
    ValueError, match=f"{place}.*unknown.*{next(iter(changes))}"
  ):
    Config.from_dict(fields | {place: rope})


def test_rotary_settings_are_found_where_transformers_finds_them():
  section = {"mrope_section": [16, 24, 24]}
  fields = raw(rope_theta=10.0, rope_parameters=section | {"rope_theta": 99.0})
  assert Config.from_dict(fields).rope_theta == 10.0  # of rope_scaling
  del fields["rope_scaling"]
  assert Config.from_dict(fields).rope_theta == 99.0
  fields["rope_parameters"] = section | {"partial_rotary_factor": 1.0}
  assert Config.from_dict(fields).rope_theta == 10.0
  with pytest.raises(ValueError, match=r"lacks.*'mrope_section'"):
    Config.from_dict(fields | {"rope_parameters": {}} | section)


def test_another_base_in_the_tower():
  vision = raw()["vision_config"] | {"rope_parameters": {"rope_theta": 1e6}}
  with pytest.raises(ValueError, match="vision_config has rope_theta 1000000"):
    Config.from_dict(raw(vision_config=vision))


def nested(**text):
  """The form that transformers 5 writes, and nulls that older ones left."""
  fields = raw()
  outer = ("architectures", "model_type", "vision_config", "image_token_id")
  outer += ("video_token_id", "vision_start_token_id", "vision_end_token_id")
  inner = {k: x for k, x in fields.items() if k not in outer}
  rope = inner.pop("rope_scaling") | {"rope_theta": inner.pop("rope_theta")}
  inner |= {"rope_parameters": rope, "image_token_id": None} | text
  return {k: fields[k] for k in outer} | {
    "tie_word_embeddings": True,
    "text_config": inner,
  }


def test_a_decoder_in_two_places_is_that_of_text_config():
  fields = nested() | {"hidden_size": 4096, "rms_norm_eps": 1e-3}
  assert Config.from_dict(fields) == Config()
  del fields["text_config"]["rms_norm_eps"]
  with pytest.raises(ValueError, match=r"text_config lacks.*'rms_norm_eps'"):
    Config.from_dict(fields)


@pytest.mark.parametrize(
  "name, value",
  [
    ("hidden_size", "2048"),
    ("hidden_size", 2048.0),
    ("num_hidden_layers", None),
    ("num_hidden_layers", True),
    ("tie_word_embeddings", "false"),
    ("rope_theta", "1e6"),
    ("eos_token_id", "<|im_end|>"),
  ],
)
def test_values_of_another_type(name, value):
  with pytest.raises(ValueError, match=f"{name} {value!r}, expected"):
    Config.from_dict(raw(**{name: value}))


def test_several_end_tokens():
  config = Config.from_dict(raw(eos_token_id=[5, 6]))
  assert config.eos_token_id == 5
  assert config.to_dict()["eos_token_id"] == [5, 6]


@pytest.mark.parametrize("content", ["", '{"a"', "[]", "null"])
def test_a_broken_file_is_named(tmp_path, content):
  (tmp_path / "config.json").write_text(content)
  with pytest.raises(ValueError, match=r"config\.json (is|holds).*expected"):
    Config.from_folder(tmp_path)
  with pytest.raises(ValueError, match="text_config 'x', expected an object"):
    Config.from_dict(raw(text_config="x"))


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
  for fields in (
    {"use_sliding_window": True},
    {"layer_types": ["full_attention", "sliding_attention"]},
  ):
    with pytest.raises(ValueError, match="sliding windows .* not supported"):
      Config.from_dict(raw(**fields))


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
    ({"num_attention_heads": 12}, "hidden_size 2048 .* 12 heads"),
    ({"num_key_value_heads": 3}, "16.*num_key_value_heads 3"),
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
  fields = nested(tie_word_embeddings=inner) | {"tie_word_embeddings": outer}
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
