"""The Hugging Face border: checkpoint folders.

Folders are safetensors only: nothing is ever unpickled. What the tensors are
called is said by the family (`names`); `jaxvlm.models` finds it.
"""

import dataclasses
import hashlib
import json
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy
import numpy as np
import safetensors
import safetensors.numpy

from jaxvlm import digests, distributed, jsonfile, sharding
from jaxvlm.models import config_json, names
from jaxvlm.models.family import Family
from jaxvlm.typing import Params

_SHARD_BYTES = 4 * 2**30
_ROWS = 4096  # of two matrices that are compared at a time
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_EMBEDDING = "language_model.embed_tokens.weight"
_HEAD = "lm_head.weight"


def load_pretrained(
  family: Family, path: str | pathlib.Path, dtype: Any = np.float32
) -> tuple[Any, Params]:
  """Loads a Hugging Face folder: config.json and safetensors shards.

  As transformers: model.safetensors wins over an index, and a head that
  differs from the embedding is used whatever config.json says; both are named
  in a warning. The config that is returned says what was found.

  Args:
    family: of the folder's model.
    path: folder.
    dtype: dtype of the parameters; None keeps the stored one.

  Returns:
    (config, params) with NumPy leaves, layers stacked.

  Raises:
    FileNotFoundError: no folder, no config.json, no safetensors.
    ValueError: missing, surplus or misshaped tensors; files of several saves;
      adapters that are not merged.
  """
  config, where = _open(family, pathlib.Path(path))

  def tensor(name: str) -> np.ndarray:
    handle, stored = where[name]
    return handle.get_tensor(stored)

  return config, names.from_state_dict(
    family.naming(config), tensor, set(where), dtype
  )


def load_sharded(
  family: Family,
  path: str | pathlib.Path,
  mesh: jax.sharding.Mesh,
  dtype: Any = np.float32,
) -> tuple[Any, Params]:
  """Loads a folder straight onto a mesh: each host reads what it holds.

  Args:
    family: of the folder's model.
    path: as `load_pretrained`, on a file system that all hosts see.
    mesh: of `jaxvlm.sharding.make_mesh`.
    dtype: dtype of the parameters; None keeps the stored one.

  Returns:
    (config, params) with global arrays, layers stacked.

  Raises:
    FileNotFoundError, ValueError: as `load_pretrained`.
  """
  config, found = stream_sharded(family, path, mesh, dtype)
  params: dict[str, Any] = {}
  for place, value in found:
    names.insert(params, place, value)
  return config, params


def stream_sharded(
  family: Family,
  path: str | pathlib.Path,
  mesh: jax.sharding.Mesh,
  dtype: Any = np.float32,
) -> tuple[Any, Iterator[tuple[str, jax.Array]]]:
  """Returns (config, parameters one by one) as `load_sharded` places them.

  Args, Raises: as `load_sharded`; nothing but headers is read before the first
  parameter is asked for. Each comes with its path, such as
  "model/norm/weight".
  """
  config, entries = _read_headers(family, pathlib.Path(path))
  places = sharding.partition(
    mesh,
    {e.path: jax.ShapeDtypeStruct(e.shape, np.float32) for e, _ in entries},
    family.rules,
  )
  return config, (
    (entry.path, _assemble(entry, slices, places[entry.path], dtype))
    for entry, slices in distributed.bar(entries, f"read {path}")
  )


def check_pretrained(family: Family, path: str | pathlib.Path) -> Any:
  """Returns a folder's config once its weights are known to fit it.

  Reads headers only; and the embedding, if a separate head must be compared.

  Raises:
    FileNotFoundError, ValueError: as `load_pretrained`.
  """
  return _read_headers(family, pathlib.Path(path))[0]


def _read_headers(
  family: Family, folder: pathlib.Path
) -> tuple[Any, list[tuple[names.Entry, list]]]:
  """Returns the config and every parameter with the slices it is made of."""
  config, where = _open(family, folder)
  entries = []
  for entry in names.entries_of(family.naming(config), set(where)):
    slices = []
    for name in entry.names:
      handle, stored = where[name]
      slices.append(handle.get_slice(stored))
      # A view of nothing has the shape and costs no memory.
      shape = np.broadcast_to(np.int8(0), slices[-1].get_shape())
      names.check_shape(
        name, entry.transform.apply(shape).shape, entry.part_shape
      )
    entries.append((entry, slices))
  return config, entries


def _assemble(
  entry: names.Entry, slices: list, place: Any, dtype: Any
) -> jax.Array:
  """Returns a global array of which only this process's pieces are read.

  One piece is on the host at a time; devices that hold copies share one read.
  """
  holders: dict[tuple[tuple[int, int], ...], list] = {}
  for device, index in place.addressable_devices_indices_map(
    entry.shape
  ).items():
    steps = zip(index, entry.shape, strict=True)
    bounds = tuple(s.indices(n)[:2] for s, n in steps)
    holders.setdefault(bounds, []).append(device)
  parts: list[jax.Array] = []
  for bounds, devices in holders.items():
    x = _read_piece(entry, slices, tuple(slice(*b) for b in bounds), dtype)
    parts += jax.block_until_ready([jax.device_put(x, d) for d in devices])
  return jax.make_array_from_single_device_arrays(entry.shape, place, parts)


def _read_piece(
  entry: names.Entry, slices: list, index: tuple[slice, ...], dtype: Any
) -> np.ndarray:
  """Returns `index` of a parameter; None for dtype is the stored one.

  Layers are put in their place one by one, so that a host holds the piece and
  one tensor, not the piece twice.
  """
  read = entry.transform.piece
  if not entry.stacked:
    return _typed_as(read(slices[0], index), dtype)
  layers, whole = slices[index[0]], None
  for place, layer in enumerate(layers):
    part = read(layer, index[1:])
    if whole is None:
      whole = np.empty((len(layers), *part.shape), dtype or part.dtype)
    if dtype is None and part.dtype != whole.dtype:  # as np.stack would
      whole = whole.astype(np.result_type(whole, part))
    whole[place] = part
  return whole


def _typed_as(x: np.ndarray, dtype: Any) -> np.ndarray:
  return x if dtype is None else x.astype(dtype, copy=False)


_Where = dict[str, tuple[Any, str]]  # canonical name -> (file, name in it)


def _open(family: Family, folder: pathlib.Path) -> tuple[Any, _Where]:
  """Returns the config and the open files, by canonical names of tensors."""
  config = config_json.read(folder, family.read)
  adapters = folder / "adapter_config.json"
  if adapters.is_file():
    raise ValueError(
      f"{folder} holds adapters ({adapters.name}), expected a whole model:"
      " merge them into its weights first"
    )
  where: _Where = {}
  for file, expected in _files(folder).items():
    try:
      handle = safetensors.safe_open(file, framework="numpy")
    except safetensors.SafetensorError as e:
      raise ValueError(f"{file} is not a valid safetensors file: {e}") from e
    held = list(handle.keys())
    if expected is not None and set(held) != expected:
      wrong = sorted(expected.symmetric_difference(held))
      raise ValueError(
        f"{file} and {_INDEX} are of different saves: {len(wrong)} tensor(s)"
        f" such as {wrong[0]!r} stand in one of them only; copy the folder"
        " again, index and shards together"
      )
    for name in held:
      canonical = names.canonical_name(name)
      if canonical in where:
        raise ValueError(
          f"{folder} holds tensor {canonical!r} twice, the second time in"
          f" {file.name}; expected one: remove the files of the older save"
        )
      where[canonical] = (handle, name)
  if config.tie_word_embeddings and _has_own_head(where):
    logging.warning(
      "%s: config.json says tie_word_embeddings, but %s differs from the"
      " embedding: it is used as a head of its own, as transformers does; write"
      " tie_word_embeddings false into config.json",
      folder,
      _HEAD,
    )
    config = dataclasses.replace(config, tie_word_embeddings=False)
  return config, where


def _files(folder: pathlib.Path) -> dict[pathlib.Path, set[str] | None]:
  """Returns the weights' files, each with its tensors by the index, if any.

  Those that transformers would read: model.safetensors, otherwise what the
  index names.
  """
  found = sorted(folder.glob("*.safetensors"))
  if not found:
    pickled = sorted(p.name for p in folder.glob("*.bin"))
    raise FileNotFoundError(
      f"{folder} has no *.safetensors"
      + (f" (found {pickled}: pickled weights are refused)" if pickled else "")
      + "; expected the model's weights in safetensors format"
    )
  single, index = folder / _SINGLE, folder / _INDEX
  if single in found:
    shards: dict[pathlib.Path, set[str] | None] = {single: None}
  elif index.is_file():
    shards = {}
    for name, file in _weight_map(index).items():
      shards.setdefault(folder / file, set()).add(name)
    absent = sorted(f.name for f in shards.keys() - set(found))
    if absent:
      raise FileNotFoundError(
        f"{folder} lacks shard(s) {absent} named in {_INDEX}: copy them, the"
        " download is incomplete"
      )
  else:
    raise ValueError(
      f"{folder} has {[f.name for f in found]} and no {_INDEX}, expected"
      f" {_SINGLE} or an index that names its files: which of them belong"
      " together is not known; copy the index, or rename a single file"
    )
  ignored = [f.name for f in found if f not in shards]
  if single in found and index.is_file():
    ignored.append(_INDEX)
  if ignored:
    logging.warning(
      "%s: the weights are those of %s, as transformers reads them; %s ignored:"
      " remove what is of an older save",
      folder,
      [f.name for f in shards],
      ignored,
    )
  return dict(sorted(shards.items()))


def _weight_map(index: pathlib.Path) -> dict[str, str]:
  """Returns tensor -> file of an index."""
  found = jsonfile.read(index).get("weight_map")
  if not isinstance(found, dict) or not all(
    isinstance(file, str) and file == pathlib.Path(file).name
    for file in found.values()
  ):
    raise ValueError(
      f"{index} has no weight_map from tensors to files of its folder; copy it"
      " again"
    )
  return found


def _has_own_head(where: _Where) -> bool:
  """Returns whether a head is stored that is not the embedding."""
  if not {_HEAD, _EMBEDDING} <= where.keys():
    return False
  head, embedding = (
    handle.get_slice(name) for handle, name in (where[_HEAD], where[_EMBEDDING])
  )
  shape = head.get_shape()
  if shape != embedding.get_shape():
    return True
  blocks = [
    slice(i, min(i + _ROWS, shape[0])) for i in range(0, shape[0], _ROWS)
  ]
  return not all(
    np.array_equal(
      head[rows].astype(np.float32), embedding[rows].astype(np.float32)
    )
    for rows in blocks
  )


def fingerprint(path: str | pathlib.Path) -> str:
  """Returns a digest of config.json and of every byte of the weights.

  Weights are read once: digests of large files are kept in the folder
  (`jaxvlm.digests`).

  Raises:
    FileNotFoundError, ValueError: as `load_pretrained`, for files that are
      absent or of several saves.
  """
  folder = pathlib.Path(path)
  digest = hashlib.sha256((folder / "config.json").read_bytes())
  for file in _files(folder):
    digest.update(f"{file.name} {digests.of_file(file)}\n".encode())
  return digest.hexdigest()


def save_pretrained(
  family: Family,
  path: str | pathlib.Path,
  config: Any,
  params: Params,
  *,
  shard_bytes: int = _SHARD_BYTES,
) -> None:
  """Writes config.json and safetensors that transformers can load.

  A host holds one shard at a time. What the folder held before is replaced
  once all of the new is on the disk.

  Args:
    family: of the model.
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
  tensors = names.state_dict(family.naming(config), params)
  for name, value in distributed.bar(tensors, f"write {folder.name}"):
    size = sum(x.nbytes for x in shard.values())
    if shard and size + value.nbytes > shard_bytes:
      written.append(_write_shard(folder, len(written), shard))
      shard = {}
    shard[name] = value
  written.append(_write_shard(folder, len(written), shard))
  if distributed.is_writer():
    _publish(folder, _typed(family.write(config), str(value.dtype)), written)
  distributed.barrier(f"save {folder}")


def _typed(fields: dict[str, Any], dtype: str) -> dict[str, Any]:
  """Returns config.json's fields with the weights' type, where it stands."""
  keys, fields = ("torch_dtype", "dtype"), dict(fields)
  if not any(key in fields for key in keys):
    fields[keys[0]] = dtype
  for part in (
    fields,
    *(fields.get(k) for k in ("text_config", "vision_config")),
  ):
    for key in keys:
      if part and part.get(key) is not None:
        part[key] = dtype
  return fields


def _write_shard(
  folder: pathlib.Path, number: int, shard: dict[str, np.ndarray]
) -> dict[str, int]:
  """Writes a shard under a name of its own; returns its tensors' bytes."""
  if distributed.is_writer():
    folder.mkdir(parents=True, exist_ok=True)
    file = _partial(folder, number)
    file.touch()  # with the mode that the user's umask gives
    mode = file.stat().st_mode
    safetensors.numpy.save_file(shard, file, metadata={"format": "pt"})
    file.chmod(mode)  # safetensors leaves a file for its owner alone
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
