"""`jaxvlm convert`: to arrays and back, every bit; a flipped one is found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import models
from jaxvlm.sharding import MeshConfig, make_mesh
from jaxvlm.tools import conversion
from tests import tiny

MESH = make_mesh(MeshConfig(), jax.devices()[:1])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """A folder in bfloat16."""
  folder = tmp_path_factory.mktemp("model")
  tiny.write_folder(folder)
  config, params = models.load_pretrained(folder)
  half = jax.tree.map(lambda x: np.asarray(x, jnp.bfloat16), params)
  models.save_pretrained(folder, config, half)
  return folder


@pytest.fixture(scope="module")
def arrays(model, tmp_path_factory):
  out = tmp_path_factory.mktemp("arrays")
  (out / "checkpoints" / "0").mkdir(parents=True)  # of a start that was cut off
  count = conversion.to_arrays(model, out, MESH)
  assert count == len(jax.tree.leaves(models.load_pretrained(model)[1]))
  return out


def test_there_and_back_is_the_same_file(model, arrays, tmp_path):
  conversion.to_folder(arrays, tmp_path, MESH)
  for name in ("model.safetensors", "config.json", "tokenizer.json"):
    assert (tmp_path / name).read_bytes() == (model / name).read_bytes()


def test_a_flipped_bit_in_what_was_written_is_found(
  model, arrays, tmp_path, monkeypatch
):
  write = models.save_pretrained

  def badly(path, *rest):
    write(path, *rest)
    file = path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)

  monkeypatch.setattr(models, "save_pretrained", badly)
  with pytest.raises(OSError, match="is not what was converted"):
    conversion.to_folder(arrays, tmp_path, MESH)


def test_what_is_there_is_not_replaced(model, arrays):
  with pytest.raises(ValueError, match="holds checkpoints already"):
    conversion.to_arrays(model, arrays, MESH)
  with pytest.raises(ValueError, match="expected another folder"):
    conversion.to_folder(arrays, arrays, MESH)


def test_a_pickle_is_refused_before_anything_is_written(model, tmp_path):
  source, out = tmp_path / "pickled", tmp_path / "out"
  source.mkdir()
  (source / "config.json").write_bytes((model / "config.json").read_bytes())
  (source / "pytorch_model.bin").write_bytes(b"\x80\x04")
  with pytest.raises(FileNotFoundError, match="pickled weights are refused"):
    conversion.to_arrays(source, out, MESH)
  assert not out.exists()
