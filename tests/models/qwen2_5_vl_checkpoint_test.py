"""Checkpoint folders: round trips, transformers' view, and what is written."""

import dataclasses
import json
import os
import pathlib

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxvlm import distributed, models
from jaxvlm.models import names, qwen2_5_vl
from jaxvlm.sharding import MeshConfig, make_mesh
from tests.models.qwen2_5_vl_folders import (
  assert_bit_equal,
  edit_config,
  random_params,
  rewrite,
  saved,
  tiny,
)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard_bytes", [4 * 2**30, 2000])
def test_load_and_save_are_inverse(tmp_path, tied, dtype, shard_bytes):
  config = tiny(tied)
  params = random_params(config, dtype)
  qwen2_5_vl.save_pretrained(tmp_path, config, params, shard_bytes=shard_bytes)
  assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (
    shard_bytes == 2000
  )
  assert ("lm_head" in params["model"]) == (not tied)
  again, loaded = qwen2_5_vl.load_pretrained(tmp_path, None)
  assert again == config
  assert_bit_equal(loaded, params)
  qwen2_5_vl.save_pretrained(
    tmp_path / "second", again, loaded, shard_bytes=shard_bytes
  )
  for first in [*tmp_path.glob("*.safetensors"), *tmp_path.glob("*.json")]:
    assert (tmp_path / "second" / first.name).read_bytes() == first.read_bytes()


def test_dtype_is_that_asked_for(tmp_path):
  config = tiny()
  params = random_params(config, ml_dtypes.bfloat16)
  qwen2_5_vl.save_pretrained(tmp_path, config, params)
  stored = json.loads((tmp_path / "config.json").read_text())["torch_dtype"]
  assert stored == "bfloat16"
  _, loaded = qwen2_5_vl.load_pretrained(tmp_path)
  assert_bit_equal(loaded, jax.tree.map(lambda x: x.astype(np.float32), params))


def test_saving_over_a_folder_leaves_no_old_shard(tmp_path):
  saved(tmp_path, shard_bytes=2000)
  (tmp_path / "tokenizer.json").write_text("{}")
  config, params = qwen2_5_vl.load_pretrained(tmp_path)
  qwen2_5_vl.save_pretrained(tmp_path, config, params)
  names = {file.name for file in tmp_path.iterdir()}
  assert names == {"config.json", "model.safetensors", "tokenizer.json"}
  assert_bit_equal(
    qwen2_5_vl.load_pretrained(tmp_path)[1], random_params(tiny())
  )


@pytest.mark.parametrize("tied", [True, False])
def test_official_key_layout(tmp_path, tied):
  saved(tmp_path, tied)

  def official(tensors):
    tensors = {
      name.replace("model.visual.", "visual.").replace(
        "model.language_model.", "model."
      ): x
      for name, x in tensors.items()
    }
    assert {"visual.merger.mlp.2.bias", "model.norm.weight"} <= set(tensors)
    assert ("lm_head.weight" in tensors) == (not tied)
    return tensors

  rewrite(tmp_path, official)
  _, loaded = qwen2_5_vl.load_pretrained(tmp_path)
  assert_bit_equal(loaded, random_params(tiny(tied)))


def test_a_stored_copy_of_a_tied_head_is_accepted(tmp_path):
  saved(tmp_path)
  rewrite(
    tmp_path,
    lambda x: (
      x | {"lm_head.weight": x["model.language_model.embed_tokens.weight"]}
    ),
  )
  _, loaded = qwen2_5_vl.load_pretrained(tmp_path)
  assert_bit_equal(loaded, random_params(tiny()))


EMBEDDING = "model.language_model.embed_tokens.weight"


def with_head(path: pathlib.Path, change) -> pathlib.Path:
  """Stores `change(embedding)` as a head beside a config that says tied."""
  rewrite(path, lambda x: x | {"lm_head.weight": change(x[EMBEDDING].copy())})
  return path


def one_number_changed(embedding):
  embedding[-1, -1] += 1
  return embedding


def test_a_head_of_its_own_is_used_though_config_says_tied(tmp_path, caplog):
  with_head(saved(tmp_path), one_number_changed)
  config, loaded = qwen2_5_vl.load_pretrained(tmp_path)
  assert "differs from the embedding" in caplog.text
  assert config == tiny(tied=False)
  np.testing.assert_array_equal(
    loaded["model"]["lm_head"],
    one_number_changed(random_params(tiny())["model"]["embed_tokens"].copy()).T,
  )
  # Whoever asks for the config alone is told the same.
  assert models.check_pretrained(tmp_path) == config
  mesh = make_mesh(MeshConfig(), jax.devices()[:1])
  cut_config, cut = models.load_sharded(tmp_path, mesh)
  assert cut_config == config
  assert_bit_equal(jax.device_get(cut), loaded)
  # And a folder that is written says what it holds.
  qwen2_5_vl.save_pretrained(tmp_path / "out", config, loaded)
  caplog.clear()
  again, same = qwen2_5_vl.load_pretrained(tmp_path / "out")
  assert again == config and not caplog.records
  assert_bit_equal(same, loaded)


def test_a_copy_of_the_embedding_in_another_dtype_is_no_head(tmp_path, caplog):
  config = tiny()
  params = random_params(config, ml_dtypes.bfloat16)
  qwen2_5_vl.save_pretrained(tmp_path, config, params)
  file = tmp_path / "model.safetensors"
  with safetensors.safe_open(file, framework="numpy") as stored:
    tensors = {k: stored.get_tensor(k) for k in stored.keys()}  # not a dict
  tensors["lm_head.weight"] = tensors[EMBEDDING].astype(np.float32)
  safetensors.numpy.save_file(tensors, file)
  again, loaded = qwen2_5_vl.load_pretrained(tmp_path, None)
  assert again == config and not caplog.records
  assert_bit_equal(loaded, params)


def test_a_head_of_another_size_is_refused(tmp_path):
  with_head(saved(tmp_path), lambda x: np.concatenate([x, x[:3]]))
  with pytest.raises(
    ValueError, match=r"lm_head\.weight' has shape \(16, 43\)"
  ):
    qwen2_5_vl.load_pretrained(tmp_path)


def test_transformers_uses_the_same_head(tmp_path):
  from tests.reference import hf

  config = hf.tiny_config(tie_word_embeddings=True)
  qwen2_5_vl.save_pretrained(
    tmp_path, config, hf.to_jax(config, hf.random_model(config, seed=7))
  )
  with_head(tmp_path, lambda x: x[::-1].copy())
  theirs, _ = hf.from_pretrained(tmp_path)
  config, params = qwen2_5_vl.load_pretrained(tmp_path)
  inputs = hf.random_inputs(config, [(2, (1, 6, 4), 3)], "left", 0)
  want = hf.run(config, theirs, inputs).logits.detach().numpy()
  batch = qwen2_5_vl.batch_from_hf(config, *inputs)
  got = qwen2_5_vl.logits(config, params, batch)
  np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
def test_the_dtype_is_written_where_it_stood(tmp_path, key):
  config = tiny()
  fields = config.to_dict() | {key: "float16"}
  fields["vision_config"][key] = "float16"
  read = qwen2_5_vl.Config.from_dict(fields)
  qwen2_5_vl.save_pretrained(tmp_path, read, random_params(config))
  fields[key] = fields["vision_config"][key] = "float32"
  assert json.loads((tmp_path / "config.json").read_text()) == fields


def test_files_have_the_mode_that_the_umask_gives(tmp_path):
  before = os.umask(0o027)
  try:
    saved(tmp_path, shard_bytes=2000)
  finally:
    os.umask(before)
  assert {f.stat().st_mode & 0o777 for f in tmp_path.iterdir()} == {0o640}


def test_a_fingerprint_knows_every_byte(tmp_path):
  config = dataclasses.replace(tiny(), intermediate_size=40_000)
  params = random_params(config)
  qwen2_5_vl.save_pretrained(tmp_path, config, params)
  file = tmp_path / "model.safetensors"
  before, content = models.fingerprint(tmp_path), file.read_bytes()
  assert before == models.fingerprint(tmp_path)
  rewrite(tmp_path, lambda x: x | {MIDDLE: x[MIDDLE] * 2})
  mebibyte = 2**20
  after = file.read_bytes()
  assert len(after) == len(content) and after != content
  assert after[:mebibyte] == content[:mebibyte]
  assert after[-mebibyte:] == content[-mebibyte:]
  assert models.fingerprint(tmp_path) != before
  file.write_bytes(content)
  assert models.fingerprint(tmp_path) == before
  edit_config(tmp_path, rope_theta=3.0)
  assert models.fingerprint(tmp_path) != before


MIDDLE = "model.language_model.layers.1.mlp.gate_proj.weight"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard_bytes", [4 * 2**30, 4000])
def test_transformers_loads_what_we_save(tmp_path, tied, shard_bytes):
  from tests.reference import hf

  config = hf.tiny_config(tie_word_embeddings=tied)
  params = hf.to_jax(config, hf.random_model(config, seed=5))
  qwen2_5_vl.save_pretrained(tmp_path, config, params, shard_bytes=shard_bytes)
  theirs, report = hf.from_pretrained(tmp_path)
  assert not any(report.values()), report
  inputs = hf.random_inputs(config, [(2, (1, 6, 4), 3)], "left", 0)
  want = hf.run(config, theirs, inputs).logits.detach().numpy()
  batch = qwen2_5_vl.batch_from_hf(config, *inputs)
  got = qwen2_5_vl.logits(config, params, batch)
  np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_we_load_what_transformers_saves(tmp_path, tied):
  from tests.reference import hf

  config = hf.tiny_config(tie_word_embeddings=tied, rope_theta=5e4)
  theirs = hf.random_model(config, seed=6)
  theirs.save_pretrained(tmp_path)
  again, loaded = qwen2_5_vl.load_pretrained(tmp_path)
  # A model of transformers made without these ids has none.
  expected = dataclasses.replace(config, bos_token_id=None, eos_token_id=None)
  assert again == expected
  assert_bit_equal(loaded, hf.to_jax(config, theirs))


def test_one_layer_at_a_time_comes_to_the_host(tmp_path, monkeypatch):
  config = tiny()
  params = jax.tree.map(jax.numpy.asarray, random_params(config))
  gather, shapes = distributed.gather, []

  def counted(x):
    shapes.append(x.shape)
    return gather(x)

  monkeypatch.setattr(distributed, "gather", counted)
  qwen2_5_vl.save_pretrained(tmp_path, config, params)
  stacked = params["model"]["layers"]["mlp"]["up_proj"]["kernel"].shape
  assert stacked not in shapes and shapes.count(stacked[1:]) >= stacked[0]
  assert_bit_equal(qwen2_5_vl.load_pretrained(tmp_path)[1], params)


def test_unstacked_parameters_are_not_saved_by_halves(tmp_path):
  config = tiny()
  params = qwen2_5_vl.bind(config).unstack(random_params(config))
  with pytest.raises(ValueError, match=r"model/layers/0.*stacked"):
    qwen2_5_vl.save_pretrained(tmp_path, config, params)
  assert not list(tmp_path.glob("*.safetensors"))


def test_a_missing_or_foreign_leaf_is_not_saved(tmp_path):
  config = tiny(tied=False)
  params = random_params(config)
  adapter = {**params["model"], "lora": np.zeros(2, np.float32)}
  with pytest.raises(ValueError, match="model/lora"):
    qwen2_5_vl.save_pretrained(tmp_path, config, {**params, "model": adapter})
  partial = {k: x for k, x in params["model"].items() if k != "lm_head"}
  with pytest.raises(ValueError, match="model/lm_head"):
    qwen2_5_vl.save_pretrained(tmp_path, config, {**params, "model": partial})


def test_patch_kernels_of_other_depths_survive(tmp_path):
  config = tiny(temporal_patch_size=1)
  params = random_params(config)
  qwen2_5_vl.save_pretrained(tmp_path, config, params)
  stored = safetensors.numpy.load_file(tmp_path / "model.safetensors")
  kernel = stored["model.visual.patch_embed.proj.weight"]
  assert kernel.shape == (8, 3, 1, 4, 4)
  assert_bit_equal(qwen2_5_vl.load_pretrained(tmp_path)[1], params)


def test_names_are_canonical():
  for name in (
    "visual.blocks.0.norm1.weight",
    "model.visual.blocks.0.norm1.weight",
  ):
    assert names.canonical_name(name) == "visual.blocks.0.norm1.weight"
  for name in ("model.norm.weight", "model.language_model.norm.weight"):
    assert names.canonical_name(name) == "language_model.norm.weight"
  assert names.canonical_name("lm_head.weight") == "lm_head.weight"
