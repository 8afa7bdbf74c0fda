"""Presets: the published files, the published sizes."""

import json
import math
import pathlib

import jax
import pytest

from jaxvlm.data.tokenizer import SPECIAL_TOKENS
from jaxvlm.models import qwen2_5_vl
from jaxvlm.models.qwen2_5_vl import Config, presets

PUBLISHED = pathlib.Path(__file__).parents[3] / "shared/data/model_configs"
published = pytest.mark.skipif(
  not PUBLISHED.is_dir(),
  reason="shared data absent: ../shared/data/model_configs",
)

SIZES = {
  "3B": presets.QWEN_3B,
  "7B": presets.QWEN_7B,
  "32B": presets.QWEN_32B,
  "72B": presets.QWEN_72B,
}


def parameters(config: Config) -> int:
  shapes = jax.eval_shape(lambda: qwen2_5_vl.init(config, jax.random.key(0)))
  return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


def counted(config: Config) -> int:
  """Counts parameters by the published description, not by our modules."""
  d, ff, kv = config.hidden_size, config.intermediate_size, 0
  kv = config.num_key_value_heads * config.head_dim
  layer = d * d + d + 2 * (d * kv + kv) + d * d + 3 * d * ff + 2 * d
  text = config.vocab_size * d * (1 if config.tie_word_embeddings else 2)
  text += config.num_hidden_layers * layer + d
  v = config.vision
  w, m = v.hidden_size, v.hidden_size * v.spatial_merge_size**2
  block = 4 * (w * w + w) + 3 * w * v.intermediate_size
  block += 2 * v.intermediate_size + w + 2 * w
  patch = w * 3 * v.temporal_patch_size * v.patch_size**2
  merger = w + m * m + m + m * v.out_hidden_size + v.out_hidden_size
  return text + v.depth * block + patch + merger


@published
@pytest.mark.parametrize("size", ["3B", "7B"])
def test_presets_equal_the_official_files(size):
  file = PUBLISHED / f"Qwen2.5-VL-{size}-Instruct" / "config.json"
  assert SIZES[size] == Config.from_dict(json.loads(file.read_text()))


@published
@pytest.mark.parametrize("size", ["32B", "72B"])
def test_presets_equal_the_published_dimensions(size):
  tables = json.loads((PUBLISHED / "larger_models_dims.json").read_text())
  table = tables[f"Qwen2.5-VL-{size}-Instruct"]
  for part, config in (
    (table["text"], SIZES[size]),
    (table["vision"], SIZES[size].vision),
  ):
    known = {name: value for name, value in part.items() if value is not None}
    assert {name: getattr(config, name) for name in known} == known
  assert not SIZES[size].tie_word_embeddings
  assert SIZES[size].head_dim == 128


@pytest.mark.parametrize(
  ("size", "count"),
  [
    ("3B", 3_754_622_976),
    ("7B", 8_292_166_656),
    ("32B", 33_452_718_336),
    ("72B", 73_410_777_344),
  ],
)
def test_number_of_parameters(size, count):
  assert parameters(SIZES[size]) == counted(SIZES[size]) == count


def test_nano_has_every_mechanism_of_the_family():
  special = {token: 300 + i for i, token in enumerate(SPECIAL_TOKENS)}
  config = presets.nano(
    width=80,
    heads=4,
    layers=3,
    vision_width=64,
    vocab_size=400,
    special=special,
  )
  assert parameters(config) == counted(config) < 1_000_000
  assert config.image_token_id == special["<|image_pad|>"]
  assert config.video_token_id == special["<|video_pad|>"]
  assert config.vision_start_token_id == special["<|vision_start|>"]
  assert config.vision_end_token_id == special["<|vision_end|>"]
  assert config.num_key_value_heads < config.num_attention_heads
  assert 0 < len(config.vision.fullatt_block_indexes) < config.vision.depth
  assert all(config.mrope_section)
  assert config.layout.window_slots == 16
  assert Config.from_dict(config.to_dict()) == config
