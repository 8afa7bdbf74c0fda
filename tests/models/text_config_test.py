"""config.json of families that read text only; which family a file is of."""

import dataclasses
import json
import logging
import pathlib

import pytest

from jaxvlm import models
from jaxvlm.models import llama, qwen2
from jaxvlm.models.rope import Linear, Llama3, Rope

PUBLISHED = pathlib.Path(__file__).parents[3] / "shared/data/model_configs"


def published(**changes):
  """Returns a file as Qwen2.5-Coder has it; None takes a field out."""
  fields = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 32768,
    "max_window_layers": 36,
    "model_type": "qwen2",
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
  } | changes
  return {name: value for name, value in fields.items() if value is not None}


def read(fields, folder):
  (folder / "config.json").write_text(json.dumps(fields))
  return models.read_config(folder)


def newer(fields):
  """Returns a flat file as transformers 5 writes it."""
  fields = dict(fields)
  rope = dict(fields.pop("rope_scaling", {"rope_type": "default"}))
  rope.pop("type", None)
  fields["rope_parameters"] = rope | {"rope_theta": fields.pop("rope_theta")}
  return fields


def nested(fields):
  """Returns a file whose decoder stands in text_config."""
  outer = ("architectures", "model_type", "tie_word_embeddings")
  inner = {k: x for k, x in fields.items() if k not in outer}
  return {k: fields[k] for k in outer if k in fields} | {"text_config": inner}


def test_a_published_file_is_the_preset(tmp_path, caplog):
  found = read(published(), tmp_path)
  assert found == models.PRESETS["qwen2.5-coder-3b"] and not caplog.records
  assert models.family_of(found) is qwen2.FAMILY


@pytest.mark.parametrize("form", [newer, nested, lambda x: nested(newer(x))])
def test_all_forms_of_a_file_say_the_same_and_are_kept(tmp_path, form):
  fields = form(published())
  found = read(fields, tmp_path)
  assert found == read(published(), tmp_path)
  assert qwen2.FAMILY.write(found) == fields
  changed = dataclasses.replace(
    found, tie_word_embeddings=False, vocab_size=7, rope=Rope(5.0)
  )
  written = qwen2.FAMILY.write(changed)
  assert read(written, tmp_path) == changed


def test_what_is_written_without_a_file_reads_back(tmp_path):
  preset = models.PRESETS["qwen2.5-coder-3b"]
  assert read(qwen2.FAMILY.write(preset), tmp_path) == preset


def test_an_unknown_model_type_is_named_with_the_known_ones(tmp_path):
  for found in ("gpt_neox", None):
    with pytest.raises(ValueError, match=rf"{found}.*'qwen2_5_vl', .*'qwen2'"):
      read(published(model_type=found), tmp_path)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"use_sliding_window": True}, "sliding windows .* not supported"),
    ({"layer_types": ["sliding_attention"]}, "sliding windows"),
    (
      {"rope_scaling": {"type": "yarn", "factor": 4.0}},
      "yarn.*expected type 'default': long-context scaling is not supported",
    ),
    ({"rope_scaling": {"factor": 4.0}}, "unknown .'factor'"),
    ({"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
    ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    ({"num_hidden_layers": "36"}, "num_hidden_layers '36', expected int"),
    ({"rms_norm_eps": None}, "lacks .*rms_norm_eps"),
    ({"rope_theta": None}, "rope_theta None of the rotary positions"),
    ({"rope_theta": -1}, "rope_theta -1 "),
    ({"num_key_value_heads": 3}, "num_attention_heads 16.*heads 3"),
    ({"head_dim": 7}, "head_dim is 7"),
  ],
)
def test_what_is_not_supported_is_named(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    read(published(**changes), tmp_path)


def test_unknown_fields_are_named_and_kept(tmp_path, caplog):
  fields = published(sparse_moe=4)
  with caplog.at_level(logging.WARNING):
    found = read(fields, tmp_path)
  assert "unknown field(s) ['sparse_moe']" in caplog.text
  assert qwen2.FAMILY.write(found) == fields


def deepseek(**changes):
  """Returns the published config.json of DeepSeek-Coder 1.3B."""
  fields = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 32013,
    "eos_token_id": 32021,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 5504,
    "max_position_embeddings": 16384,
    "model_type": "llama",
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "num_key_value_heads": 16,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {"factor": 4.0, "type": "linear"},
    "rope_theta": 100000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 32256,
  } | changes
  return {name: value for name, value in fields.items() if value is not None}


# As Llama 3.1 8B and 3.2 1B have it.
LLAMA3 = {
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 8192,
  "rope_type": "llama3",
}


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="shared data absent")
def test_the_published_deepseek_coder(tmp_path, caplog):
  folder = PUBLISHED / "deepseek-coder-1.3b-instruct"
  found = models.read_config(folder)
  assert not caplog.records and found == read(deepseek(), tmp_path)
  assert models.family_of(found) is llama.FAMILY
  file = json.loads((folder / "config.json").read_text())
  assert llama.FAMILY.write(found) == file
  small, large = found, models.PRESETS["deepseek-coder-6.7b"]
  for name in ("vocab_size", "rope", "head_dim", "max_position_embeddings"):
    assert getattr(small, name) == getattr(large, name), name


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="shared data absent")
@pytest.mark.parametrize("name", ["qwen2.5-coder-3b", "deepseek-coder-6.7b"])
def test_presets_have_the_known_dimensions(name):
  known = json.loads((PUBLISHED / "more_dims.json").read_text())[name]
  written = models.family_of(models.PRESETS[name]).write(models.PRESETS[name])
  fields = known["text"] | {"tie_word_embeddings": known["tie_word_embeddings"]}
  scaling = fields.pop("rope_scaling", {})
  assert scaling.items() <= written.get("rope_scaling", {}).items()
  assert {key: written[key] for key in fields} == fields


@pytest.mark.parametrize("form", [newer, nested, lambda x: nested(newer(x))])
@pytest.mark.parametrize("scaling", [None, LLAMA3])
def test_all_forms_of_a_llama_say_the_same_and_are_kept(
  tmp_path, form, scaling
):
  flat = deepseek(**({"rope_scaling": scaling} if scaling else {}))
  fields = form(flat)
  if "rope_scaling" in str(fields):
    assert "rope_parameters" not in str(fields)
  else:  # transformers 5 knows `rope_type` alone
    rope = (fields.get("text_config") or fields)["rope_parameters"]
    rope.setdefault("rope_type", "linear")
  found = read(fields, tmp_path)
  assert found == read(flat, tmp_path)
  want = Llama3(8.0, 1.0, 4.0, 8192) if scaling else Linear(4.0)
  assert found.rope == Rope(1e5, want)
  assert llama.FAMILY.write(found) == fields


def test_what_a_llama_leaves_out_is_as_in_transformers(tmp_path):
  left_out = (
    "attention_bias num_key_value_heads rope_scaling rope_theta"
    " tie_word_embeddings max_position_embeddings"
  ).split()
  found = read(deepseek(**dict.fromkeys(left_out)), tmp_path)
  assert found.num_key_value_heads == found.num_attention_heads
  assert found.rope == Rope(1e4) and found.head_dim == 128
  assert not (found.tie_word_embeddings or found.qkv_bias or found.mlp_bias)
  biased = read(deepseek(attention_bias=True, mlp_bias=True), tmp_path)
  assert biased.qkv_bias and biased.o_bias and biased.mlp_bias
  assert read(deepseek(head_dim=64), tmp_path).head_dim == 64


@pytest.mark.parametrize(
  "scaling, message",
  [
    ({"type": "dynamic", "factor": 2.0}, "dynamic.*of another kind"),
    ({"type": "linear"}, "factor None of the rotary positions"),
    ({"type": "linear", "factor": 0}, "factor 0 of the rotary"),
    ({"type": "linear", "rope_type": "yarn", "factor": 2.0}, "yarn"),
    ({"type": "linear", "factor": 4.0, "beta_fast": 32}, "unknown .'beta_fast"),
    (LLAMA3 | {"low_freq_factor": 4.0}, "expected the first below the second"),
    ({**LLAMA3, "original_max_position_embeddings": None}, "original_max"),
  ],
)
def test_scaling_that_is_not_understood_is_named(tmp_path, scaling, message):
  with pytest.raises(ValueError, match=message):
    read(deepseek(rope_scaling=scaling), tmp_path)
