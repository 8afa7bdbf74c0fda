"""Checkpoint folders that are broken, mixed up or incomplete are refused."""

import errno
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxvlm import models
from jaxvlm.models import qwen2_5_vl
from tests.models.qwen2_5_vl_folders import (
  assert_bit_equal,
  random_params,
  rewrite,
  saved,
  tiny,
)


def older(path: pathlib.Path) -> pathlib.Path:
  """Leaves shards of an older save beside model.safetensors."""
  config = tiny()
  old = jax.tree.map(lambda x: x + 1, random_params(config))
  qwen2_5_vl.save_pretrained(path / "old", config, old, shard_bytes=2000)
  for file in (path / "old").glob("model*"):
    file.replace(path / file.name)
  return path


def test_a_single_file_wins_over_an_index(tmp_path, caplog):
  from tests.reference import hf

  older(saved(tmp_path))
  _, loaded = qwen2_5_vl.load_pretrained(tmp_path)
  assert_bit_equal(loaded, random_params(tiny()))
  assert "['model.safetensors'], as transformers reads them" in caplog.text
  assert "model-00002-of-" in caplog.text and "index.json" in caplog.text
  theirs, _ = hf.from_pretrained(tmp_path)
  np.testing.assert_array_equal(
    theirs.get_input_embeddings().weight.detach().numpy(),
    loaded["model"]["embed_tokens"],
  )


def test_files_without_an_index_are_refused(tmp_path):
  older(saved(tmp_path))
  (tmp_path / "model.safetensors").unlink()
  (tmp_path / "model.safetensors.index.json").unlink()
  with pytest.raises(ValueError, match=r"model-00001-of-.*no .*index\.json"):
    qwen2_5_vl.load_pretrained(tmp_path)
  for file in sorted(tmp_path.glob("*.safetensors"))[1:]:
    file.unlink()
  with pytest.raises(ValueError, match="no .*index.*rename a single file"):
    qwen2_5_vl.load_pretrained(tmp_path)


def test_files_that_the_index_does_not_name_are_named(tmp_path, caplog):
  saved(tmp_path, shard_bytes=2000)
  shard = next(iter(sorted(tmp_path.glob("*.safetensors"))))
  (tmp_path / "model-99.safetensors").write_bytes(shard.read_bytes())
  _, loaded = qwen2_5_vl.load_pretrained(tmp_path)
  assert_bit_equal(loaded, random_params(tiny()))
  (record,) = caplog.records
  assert "['model-99.safetensors'] ignored" in record.getMessage()


def test_shards_of_another_save_are_refused(tmp_path):
  saved(tmp_path, shard_bytes=2000)
  first, second = sorted(tmp_path.glob("*.safetensors"))[:2]
  content = first.read_bytes()
  first.write_bytes(second.read_bytes())
  with pytest.raises(ValueError, match=f"{first.name} and .* different saves"):
    qwen2_5_vl.load_pretrained(tmp_path)
  first.write_bytes(content)
  rewrite(tmp_path, lambda x: x | {"surplus": np.ones(1)}, second.name)
  with pytest.raises(
    ValueError, match="such as 'surplus' stand in one of them"
  ):
    qwen2_5_vl.load_pretrained(tmp_path)


def test_a_tensor_under_two_names_is_refused(tmp_path):
  saved(tmp_path)
  rewrite(
    tmp_path, lambda x: x | {"model.norm.weight": np.ones(16, np.float32)}
  )
  with pytest.raises(ValueError, match=r"'language_model\.norm\.weight' twice"):
    qwen2_5_vl.load_pretrained(tmp_path)


@pytest.mark.parametrize(
  "content, message",
  [
    ("", "index.json is empty"),
    ("{", "index.json is not JSON"),
    ("{}", "index.json has no weight_map"),
    ('{"weight_map": {"a": 1}}', "index.json has no weight_map"),
    ('{"weight_map": {"a": "../b.safetensors"}}', "no weight_map from tensors"),
  ],
)
def test_a_broken_index_is_named(tmp_path, content, message):
  saved(tmp_path, shard_bytes=2000)
  (tmp_path / "model.safetensors.index.json").write_text(content)
  with pytest.raises(ValueError, match=message):
    models.check_pretrained(tmp_path)


def test_adapters_beside_the_weights_are_refused(tmp_path):
  (saved(tmp_path) / "adapter_config.json").write_text("{}")
  with pytest.raises(ValueError, match=r"adapter_config\.json.*merge them"):
    qwen2_5_vl.load_pretrained(tmp_path)


def test_missing_folder(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"nowhere.config\.json"):
    qwen2_5_vl.load_pretrained(tmp_path / "nowhere")


def test_missing_config(tmp_path):
  (saved(tmp_path) / "config.json").unlink()
  with pytest.raises(FileNotFoundError, match=r"config\.json does not exist"):
    qwen2_5_vl.load_pretrained(tmp_path)


def test_missing_weights(tmp_path):
  (saved(tmp_path) / "model.safetensors").unlink()
  with pytest.raises(FileNotFoundError, match=r"has no \*\.safetensors"):
    qwen2_5_vl.load_pretrained(tmp_path)


def test_missing_shard(tmp_path):
  saved(tmp_path, shard_bytes=2000)
  absent = sorted(tmp_path.glob("*.safetensors"))[1]
  absent.unlink()
  with pytest.raises(FileNotFoundError, match=absent.name):
    qwen2_5_vl.load_pretrained(tmp_path)


@pytest.mark.parametrize(
  "name",
  [
    "model.visual.blocks.1.attn.qkv.bias",
    "model.language_model.layers.0.self_attn.k_proj.bias",
    "model.language_model.norm.weight",
    "lm_head.weight",
  ],
)
def test_missing_tensor(tmp_path, name):
  saved(tmp_path, tied=False)
  rewrite(tmp_path, lambda x: {k: v for k, v in x.items() if k != name})
  with pytest.raises(
    ValueError, match=r"missing \['" + name.removeprefix("model.")
  ):
    qwen2_5_vl.load_pretrained(tmp_path)


@pytest.mark.parametrize(
  "name",
  [
    "model.language_model.layers.2.self_attn.q_proj.weight",
    "model.visual.pos_embed.weight",
  ],
)
def test_surplus_tensor(tmp_path, name):
  saved(tmp_path)
  rewrite(tmp_path, lambda x: x | {name: np.zeros((2, 2), np.float32)})
  expected = r"unexpected \['" + name.removeprefix("model.")
  with pytest.raises(ValueError, match=expected):
    qwen2_5_vl.load_pretrained(tmp_path)


@pytest.mark.parametrize(
  "name",
  [
    "model.language_model.embed_tokens.weight",
    "model.visual.blocks.0.mlp.up_proj.weight",
    "model.visual.patch_embed.proj.weight",
  ],
)
def test_wrong_shape(tmp_path, name):
  saved(tmp_path)
  rewrite(tmp_path, lambda x: x | {name: x[name][:-1]})
  with pytest.raises(ValueError, match=name.removeprefix("model.") + ".*shape"):
    qwen2_5_vl.load_pretrained(tmp_path)


def test_one_layer_of_another_shape(tmp_path):
  name = "model.language_model.layers.1.mlp.up_proj.weight"
  saved(tmp_path)
  rewrite(tmp_path, lambda x: x | {name: x[name].T.copy()})
  with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj.*shape"):
    qwen2_5_vl.load_pretrained(tmp_path)


def test_pickled_weights_are_refused(tmp_path):
  (saved(tmp_path) / "model.safetensors").unlink()
  (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
  with pytest.raises(
    FileNotFoundError, match=r"pytorch_model\.bin.*pickled weights are refused"
  ):
    qwen2_5_vl.load_pretrained(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 60, -7])
def test_corrupt_weights(tmp_path, keep):
  file = saved(tmp_path) / "model.safetensors"
  file.write_bytes(file.read_bytes()[:keep])
  with pytest.raises(ValueError, match=r"model\.safetensors is not a valid"):
    qwen2_5_vl.load_pretrained(tmp_path)


def test_a_full_disk_leaves_the_old_weights(tmp_path, monkeypatch):
  saved(tmp_path)
  before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
  write, shards = safetensors.numpy.save_file, []

  def full(tensors, file, **options):
    shards.append(file)
    if len(shards) == 2:
      raise OSError(errno.ENOSPC, "No space left on device", str(file))
    write(tensors, file, **options)

  monkeypatch.setattr(safetensors.numpy, "save_file", full)
  with pytest.raises(OSError, match="No space left"):
    saved(tmp_path, shard_bytes=2000)
  for name, content in before.items():
    assert (tmp_path / name).read_bytes() == content
  assert_bit_equal(
    qwen2_5_vl.load_pretrained(tmp_path)[1], random_params(tiny())
  )
  monkeypatch.undo()
  saved(tmp_path)
  assert {f.name for f in tmp_path.iterdir()} == before.keys()
