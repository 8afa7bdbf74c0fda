"""Folders of a tiny random Qwen2.5-VL, and ways to change what is in them."""

import functools
import json
import pathlib

import jax
import numpy as np
import safetensors.numpy

from jaxvlm.models import qwen2_5_vl

TINY = {
  "vocab_size": 40,
  "hidden_size": 16,
  "intermediate_size": 24,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,
  "num_key_value_heads": 1,
  "mrope_section": (2, 1, 1),
  "image_token_id": 30,
  "video_token_id": 31,
  "vision_start_token_id": 32,
  "vision_end_token_id": 33,
}
TOWER = {
  "depth": 2,
  "hidden_size": 8,
  "intermediate_size": 12,
  "num_heads": 2,
  "patch_size": 4,
  "window_size": 16,
  "fullatt_block_indexes": (1,),
  "out_hidden_size": 16,
}


def tiny(tied: bool = True, **tower) -> qwen2_5_vl.Config:
  vision = qwen2_5_vl.VisionConfig(**TOWER | tower)
  return qwen2_5_vl.Config(**TINY, vision=vision, tie_word_embeddings=tied)


@functools.cache
def random_params(config: qwen2_5_vl.Config, dtype=np.float32):
  shapes = jax.eval_shape(lambda: qwen2_5_vl.init(config, jax.random.key(0)))
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: rng.standard_normal(x.shape).astype(dtype), shapes
  )


def assert_bit_equal(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert x.dtype == y.dtype and x.shape == y.shape
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def saved(path: pathlib.Path, tied: bool = True, **options) -> pathlib.Path:
  config = tiny(tied)
  qwen2_5_vl.save_pretrained(path, config, random_params(config), **options)
  return path


def edit_config(path: pathlib.Path, **fields) -> None:
  file = path / "config.json"
  file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def rewrite(path: pathlib.Path, change, name="model.safetensors") -> None:
  """Applies `change(tensors) -> tensors` to one shard of a folder."""
  tensors = change(safetensors.numpy.load_file(path / name))
  safetensors.numpy.save_file(tensors, path / name, metadata={"format": "pt"})
