"""The Hugging Face border: checkpoint folders.

Folders are safetensors only: nothing is ever unpickled. What the tensors are
called stands in `names`.
"""

import functools
import hashlib
import json
import pathlib
from typing import Any

import jax
import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy
import numpy as np
import safetensors
import safetensors.numpy

from jaxvlm import distributed, sharding
from jaxvlm.models.qwen2_5_vl import names, partition
from jaxvlm.models.qwen2_5_vl.config import Config
from jaxvlm.sharding import Rules
from jaxvlm.typing import Params

_SHARD_BYTES = 4 * 2**30
_MEBIBYTE = 2**20
_INDEX = "model.safetensors.index.json"


def load_pretrained(
  path: str | pathlib.Path, dtype: Any = np.float32
) -> tuple[Config, Params]:
  """Loads a Hugging Face folder: config.json and safetensors shards.

  Args:
    path: folder.
    dtype: dtype of the parameters; None keeps the stored one.

  Returns:
    (config, params) with NumPy leaves, layers stacked.

  Raises:
    FileNotFoundError: no folder, no config.json, no safetensors.
    ValueError: missing, surplus or misshaped tensors; pickled weights.
  """
  folder = pathlib.Path(path)
  config = Config.from_folder(folder)
  where = _open(folder)

  def tensor(name: str) -> np.ndarray:
    handle, stored = where[name]
    return handle.get_tensor(stored)

  return config, names.from_state_dict(config, tensor, set(where), dtype)


def load_sharded(
  path: str | pathlib.Path,
  mesh: jax.sharding.Mesh,
  dtype: Any = np.float32,
  *,
  rules: Rules = partition.RULES,
) -> tuple[Config, Params]:
  """Loads a folder straight onto a mesh: each host reads what it holds.

  Args:
    path: as `load_pretrained`, on a file system that all hosts see.
    mesh: of `jaxvlm.sharding.make_mesh`.
    dtype: dtype of the parameters; None keeps the stored one.
    rules: how parameters are cut.

  Returns:
    (config, params) with global arrays, layers stacked.

  Raises:
    FileNotFoundError, ValueError: as `load_pretrained`.
  """
  config, entries = _read_headers(pathlib.Path(path))
  places = sharding.partition(
    mesh,
    {e.path: jax.ShapeDtypeStruct(e.shape, np.float32) for e, _ in entries},
    rules,
  )
  params: dict[str, Any] = {}
  for entry, slices in entries:
    value = _assemble(entry, slices, places[entry.path], dtype)
    names.insert(params, entry.path, value)
  return config, params


def check_pretrained(path: str | pathlib.Path) -> Config:
  """Returns a folder's config once its weights are known to fit it.

  Reads headers only.

  Raises:
    FileNotFoundError, ValueError: as `load_pretrained`.
  """
  return _read_headers(pathlib.Path(path))[0]


def _read_headers(
  folder: pathlib.Path,
) -> tuple[Config, list[tuple[names.Entry, list]]]:
  """Returns the config and every parameter with the slices it is made of."""
  config = Config.from_folder(folder)
  where = _open(folder)
  entries = []
  for entry in names.entries_of(config, set(where)):
    slices = []
    for name in entry.names:
      handle, stored = where[name]
      slices.append(handle.get_slice(stored))
      # A view of nothing has the shape and costs no memory.
      shape = np.broadcast_to(np.int8(0), slices[-1].get_shape())
      names.check_shape(name, entry.transform(shape).shape, entry.part_shape)
    entries.append((entry, slices))
  return config, entries


def _assemble(
  entry: names.Entry, slices: list, place: Any, dtype: Any
) -> jax.Array:
  """Returns a global array of which only this process's pieces are read."""

  @functools.cache  # devices that hold copies of a piece share one read
  def piece(bounds: tuple[tuple[int, int], ...]) -> np.ndarray:
    x = _read_piece(entry, slices, tuple(slice(*b) for b in bounds))
    return x if dtype is None else x.astype(dtype)

  def of_device(index: tuple[slice, ...]) -> np.ndarray:
    steps = zip(index, entry.shape, strict=True)
    return piece(tuple(s.indices(n)[:2] for s, n in steps))

  return jax.make_array_from_callback(entry.shape, place, of_device)


def _read_piece(
  entry: names.Entry, slices: list, index: tuple[slice, ...]
) -> np.ndarray:
  """Returns `index` of a parameter, in the stored dtype."""
  read = names.READ[entry.transform]
  if not entry.stacked:
    return read(slices[0], index)
  return np.stack([read(s, index[1:]) for s in slices[index[0]]])


def _open(folder: pathlib.Path) -> dict[str, tuple[Any, str]]:
  """Returns canonical name -> (open safetensors file, name in it)."""
  where = {}
  files = sorted(folder.glob("*.safetensors"))
  if not files:
    pickled = sorted(p.name for p in folder.glob("*.bin"))
    raise FileNotFoundError(
      f"{folder} has no *.safetensors"
      + (f" (found {pickled}: pickled weights are refused)" if pickled else "")
      + "; expected the model's weights in safetensors format"
    )
  index = folder / _INDEX
  if index.is_file():
    shards = set(json.loads(index.read_text())["weight_map"].values())
    absent = sorted(shards - {f.name for f in files})
    if absent:
      raise FileNotFoundError(
        f"{folder} lacks shard(s) {absent} named in {index.name}: copy them,"
        " the download is incomplete"
      )
    files = [folder / name for name in sorted(shards)]
  handles = []
  for file in files:
    try:
      handle = safetensors.safe_open(file, framework="numpy")
    except safetensors.SafetensorError as e:
      raise ValueError(f"{file} is not a valid safetensors file: {e}") from e
    handles.append(handle)
    for name in handle.keys():  # not a dict
      where[names.canonical_name(name)] = (handle, name)
  return where


def fingerprint(path: str | pathlib.Path) -> str:
  """Returns a digest that tells the models of two folders apart.

  config.json; name, size, first and last mebibyte of every shard: reading 145
  GB of a 72B model at every start would take minutes.
  """
  digest = hashlib.sha256((pathlib.Path(path) / "config.json").read_bytes())
  for file in sorted(pathlib.Path(path).glob("*.safetensors")):
    size = file.stat().st_size
    digest.update(f"{file.name} {size}\n".encode())
    with file.open("rb") as stream:
      digest.update(stream.read(_MEBIBYTE))
      stream.seek(max(0, size - _MEBIBYTE))
      digest.update(stream.read(_MEBIBYTE))
  return digest.hexdigest()


def save_pretrained(
  path: str | pathlib.Path,
  config: Config,
  params: Params,
  *,
  shard_bytes: int = _SHARD_BYTES,
) -> None:
  """Writes config.json and safetensors that transformers can load.

  A host holds one shard at a time. What the folder held before is replaced
  once all of the new is on the disk.

  Args:
    path: folder, made if absent; tokenizer files in it are left alone.
    config: the architecture.
    params: stacked parameter tree; dtypes are kept. Global arrays may span
      hosts: all processes call this, the first one writes.
    shard_bytes: start a new shard beyond this size.

  Raises:
    ValueError: parameters that do not fit the config.
    OSError: the folder cannot be written; what it held is still there.
  """
  folder = pathlib.Path(path)
  written: list[dict[str, int]] = []
  shard: dict[str, np.ndarray] = {}
  for name, value in names.state_dict(config, params):
    size = sum(x.nbytes for x in shard.values())
    if shard and size + value.nbytes > shard_bytes:
      written.append(_write_shard(folder, len(written), shard))
      shard = {}
    shard[name] = value
  written.append(_write_shard(folder, len(written), shard))
  if distributed.is_writer():
    fields = {**config.to_dict(), "torch_dtype": str(value.dtype)}
    _publish(folder, fields, written)
  distributed.barrier(f"save {folder}")


def _write_shard(
  folder: pathlib.Path, number: int, shard: dict[str, np.ndarray]
) -> dict[str, int]:
  """Writes a shard under a name of its own; returns its tensors' bytes."""
  if distributed.is_writer():
    folder.mkdir(parents=True, exist_ok=True)
    file = _partial(folder, number)
    safetensors.numpy.save_file(shard, file, metadata={"format": "pt"})
  return {name: x.nbytes for name, x in shard.items()}


def _partial(folder: pathlib.Path, number: int) -> pathlib.Path:
  return folder / f"model-{number + 1:05d}.partial"


def _publish(
  folder: pathlib.Path, fields: dict[str, Any], written: list[dict[str, int]]
) -> None:
  """Puts new shards, their index and config.json in the place of the old.

  Everything new is on the disk before anything old goes: what follows are
  renames, which need no room.
  """
  files = {_partial(folder, 0): "model.safetensors"}
  if len(written) > 1:
    files = {
      _partial(
        folder, i
      ): f"model-{i + 1:05d}-of-{len(written):05d}.safetensors"
      for i in range(len(written))
    }
    index = {
      "metadata": {"total_size": sum(sum(s.values()) for s in written)},
      "weight_map": {
        k: f for f, s in zip(files.values(), written, strict=True) for k in s
      },
    }
    partial = folder / "index.partial"
    partial.write_text(json.dumps(index, indent=1))
    files[partial] = _INDEX
  partial = folder / "config.partial"
  partial.write_text(json.dumps(fields, indent=2) + "\n")
  files[partial] = "config.json"
  for stale in folder.glob("*.safetensors*"):
    if stale.name not in files.values():
      stale.unlink()
  for new, name in files.items():
    new.replace(folder / name)
  for stale in folder.glob("model-*.partial"):  # of a save that failed
    stale.unlink()
