"""config.json of families that read text only; which family a file is of."""

import dataclasses
import json
import logging

import pytest

from jaxvlm import models
from jaxvlm.models import qwen2
from jaxvlm.models.rope import Rope


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
    with pytest.raises(ValueError, match=rf"{found}.*'qwen2_5_vl', 'qwen2'"):
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
