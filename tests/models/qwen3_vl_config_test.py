"""Qwen3-VL's config.json: read as transformers reads it, or refused by name."""

import copy
import dataclasses
import json
import logging
import math
import pathlib

import jax
import numpy as np
import pytest

from jaxvlm import models
from jaxvlm.models.qwen3_vl import Config, presets
from jaxvlm.plan import setting
from tests import tiny
from tests.reference import families, hf

DIMENSIONS = (
  pathlib.Path(__file__).parents[3] / "shared/data/model_configs/more_dims.json"
)
# In the form of the published files.
OFFICIAL = {
  "architectures": ["Qwen3VLForConditionalGeneration"],
  "image_token_id": 151655,
  "model_type": "qwen3_vl",
  "text_config": {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "dtype": "bfloat16",
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2560,
    "initializer_range": 0.02,
    "intermediate_size": 9728,
    "max_position_embeddings": 262144,
    "model_type": "qwen3_vl_text",
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
      "mrope_interleaved": True,
      "mrope_section": [24, 20, 20],
      "rope_type": "default",
    },
    "rope_theta": 5000000,
    "tie_word_embeddings": True,
    "use_cache": True,
    "vocab_size": 151936,
  },
  "tie_word_embeddings": True,
  "transformers_version": "4.57.0.dev0",
  "video_token_id": 151656,
  "vision_config": {
    "deepstack_visual_indexes": [5, 11, 17],
    "depth": 24,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 1024,
    "in_channels": 3,
    "initializer_range": 0.02,
    "intermediate_size": 4096,
    "model_type": "qwen3_vl",
    "num_heads": 16,
    "num_position_embeddings": 2304,
    "out_hidden_size": 2560,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
  },
  "vision_end_token_id": 151653,
  "vision_start_token_id": 151652,
}


def changed(**changes) -> dict:
  """Returns the file with changes; `text__x` and `vision__x` inside."""
  raw = copy.deepcopy(OFFICIAL)
  for name, value in changes.items():
    part, _, field = name.partition("__")
    target = raw[f"{part}_config"] if field else raw
    target[field or name] = value
  return raw


def test_the_official_form_is_read_without_a_word(caplog):
  with caplog.at_level(logging.WARNING):
    found = Config.from_dict(OFFICIAL)
  assert found == presets.QWEN3_4B
  assert not caplog.messages
  assert found.to_dict() == OFFICIAL


@pytest.mark.parametrize("name", presets.PRESETS)
def test_what_we_write_is_what_both_readers_read(name):
  config = presets.PRESETS[name]
  written = config.to_dict()
  assert Config.from_dict(written) == config
  theirs = hf.transformers.AutoConfig.for_model(**copy.deepcopy(written))
  assert theirs.tie_word_embeddings == config.tie_word_embeddings
  assert Config.from_dict(json.loads(theirs.to_json_string())) == config


def test_an_export_keeps_what_is_unknown_and_writes_what_changed(caplog):
  raw = changed(text__novel=1, vision__novel=2, novel=3)
  with caplog.at_level(logging.WARNING):
    found = Config.from_dict(raw)
  assert "['novel', 'vision_config.novel']" in caplog.text
  smaller = dataclasses.replace(
    found,
    vocab_size=300,
    image_token_id=7,
    mrope_section=(30, 17, 17),
    tie_word_embeddings=False,
    vision=dataclasses.replace(found.vision, num_position_embeddings=16),
  )
  want = changed(
    text__novel=1,
    vision__novel=2,
    novel=3,
    text__vocab_size=300,
    image_token_id=7,
    text__rope_scaling=OFFICIAL["text_config"]["rope_scaling"]
    | {"mrope_section": [30, 17, 17]},
    text__tie_word_embeddings=False,
    tie_word_embeddings=False,
    vision__num_position_embeddings=16,
  )
  assert smaller.to_dict() == want
  assert Config.from_dict(want) == smaller


# What a file says -> what the message says.
REFUSED = [
  (changed(model_type="qwen2_5_vl"), "model_type 'qwen2_5_vl', expected"),
  (changed(text__num_experts=128), "num_experts 128: a mixture of experts"),
  (changed(quantization_config={"bits": 4}), "quantization_config"),
  (changed(text__attention_bias=True), "attention_bias true, expected false"),
  (changed(text__hidden_act="gelu"), "text hidden_act 'gelu', expected 'silu'"),
  (changed(vision__hidden_act="gelu"), "expected 'gelu_pytorch_tanh'"),
  (changed(vision__rope_parameters={"rope_theta": 5.0}), "rope_theta 5.0"),
  (
    changed(text__rope_scaling={"rope_type": "yarn", "factor": 4.0}),
    "long-context scaling is not supported",
  ),
  (
    changed(
      text__rope_scaling={
        "mrope_interleaved": False,
        "mrope_section": [24, 20, 20],
      }
    ),
    "mrope_interleaved false, expected true",
  ),
  (
    changed(text__rope_scaling={"mrope_section": [24, 20, 21]}),
    "mrope_section (24, 20, 21) for heads of 128",
  ),
  (changed(text__rope_scaling=None), "lacks field(s) ['mrope_section']"),
  (changed(text__head_dim="128"), "head_dim '128', expected int"),
  (changed(text__num_key_value_heads=5), "num_key_value_heads 5; expected"),
  (changed(text__num_hidden_layers=2), "first 3 layers of a decoder of 2"),
  (changed(vision__deepstack_visual_indexes=[5, 24]), "of the 24 of the tower"),
  (changed(vision__deepstack_visual_indexes=[11, 5]), "ascending"),
  (changed(vision__deepstack_visual_indexes=[5, 5]), "ascending"),
  (changed(vision__deepstack_visual_indexes=[]), "at least one layer"),
  (changed(vision__num_position_embeddings=2300), "expected a square"),
  (changed(vision__num_heads=7), "no multiple of 4 per head"),
  (changed(vision__out_hidden_size=2048), "differs from hidden_size 2560"),
  (changed(text_config=None), "lacks field(s)"),
  (changed(vision_config=[]), "lacks field(s)"),
]


@pytest.mark.parametrize(("raw", "message"), REFUSED)
def test_what_is_not_supported_is_refused_by_name(raw, message):
  with pytest.raises(ValueError) as caught:
    Config.from_dict(raw)
  assert message in str(caught.value)


@pytest.mark.parametrize(
  ("raw", "message"),
  [
    (changed(model_type="qwen3_vl_moe"), "qwen3_vl_moe.*a dense Qwen3-VL"),
    (changed(text__num_hidden_layers=2), "first 3 layers of a decoder of 2"),
  ],
)
def test_a_folder_is_refused_before_weights_are_read(tmp_path, raw, message):
  (tmp_path / "config.json").write_text(json.dumps(raw))
  for read in (
    models.read_config,
    models.load_pretrained,
    models.check_pretrained,
    lambda folder: setting.load_model(str(folder)),
  ):
    with pytest.raises(ValueError, match=message):
      read(tmp_path)


def test_a_video_is_refused():
  tokens = np.array([[1, tiny.QWEN3.video_token_id, 2]])
  with pytest.raises(ValueError, match="video token 57: only pictures"):
    models.batch_from_hf(tiny.QWEN3, tokens)


@pytest.mark.skipif(
  not DIMENSIONS.is_file(), reason="shared data absent: ../shared/data"
)
@pytest.mark.parametrize("size", ["4b", "8b", "32b"])
def test_presets_equal_the_collected_dimensions(size):
  table = json.loads(DIMENSIONS.read_text())[f"qwen3-vl-{size}"]
  config = presets.PRESETS[f"qwen3-vl-{size}"]
  said = changed(tie_word_embeddings=table["tie_word_embeddings"])
  for part, values in (("text", table["text"]), ("vision", table["vision"])):
    fields = said[f"{part}_config"]
    for name, value in values.items():
      scaling = name.startswith("mrope")
      (fields["rope_scaling"] if scaling else fields)[name] = value
  said["text_config"]["tie_word_embeddings"] = table["tie_word_embeddings"]
  said["vision_config"]["out_hidden_size"] = config.hidden_size
  assert Config.from_dict(said) == config


def counted(config: Config) -> int:
  """Counts parameters by the published description, not by our modules."""
  d, ff, h = config.hidden_size, config.intermediate_size, config.head_dim
  heads = config.num_attention_heads + config.num_key_value_heads
  layer = 2 * d * heads * h + 3 * d * ff + 2 * d + 2 * h
  text = config.vocab_size * d * (1 if config.tie_word_embeddings else 2)
  v = config.vision
  w, wide = v.hidden_size, v.hidden_size * v.spatial_merge_size**2
  block = 4 * (w * w + w) + 2 * w * v.intermediate_size
  block += v.intermediate_size + w + 4 * w
  patch = w * 3 * v.temporal_patch_size * v.patch_size**2 + w
  fcs = wide * wide + wide + wide * d + d
  mergers = fcs + 2 * w + len(v.deepstack_visual_indexes) * (fcs + 2 * wide)
  tower = v.depth * block + patch + v.num_position_embeddings * w + mergers
  return text + config.num_hidden_layers * layer + d + tower


@pytest.mark.parametrize(
  ("size", "billions"),
  [("2b", 2.13), ("4b", 4.44), ("8b", 8.77), ("32b", 33.4)],
)
def test_number_of_parameters(size, billions):
  config = presets.PRESETS[f"qwen3-vl-{size}"]
  shapes = jax.eval_shape(lambda: models.init(config, jax.random.key(0)))
  count = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
  assert count == counted(config)
  assert count == pytest.approx(billions * 1e9, rel=2e-3)


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=() if name == "qwen3-vl-2b" else pytest.mark.slow)
    for name in presets.PRESETS
  ],
)
def test_full_size_tensors_have_the_names_and_shapes_of_transformers(name):
  families.check_full_size_tensors(presets.PRESETS[name])


@pytest.mark.parametrize("name", presets.PRESETS)
def test_full_size_parameters_are_cut_by_exactly_one_rule(name):
  full = presets.PRESETS[name]
  families.check_full_size_cuts(full, (2, 2, 2), (1, 16, 4))
