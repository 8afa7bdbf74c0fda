"""The Hugging Face border: checkpoint folders.

One table maps parameter paths to transformers' names. Folders are safetensors
only: nothing is ever unpickled.
"""

import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy
import numpy as np
import safetensors
import safetensors.numpy

from jaxvlm import sharding
from jaxvlm.models.qwen2_5_vl import model, partition
from jaxvlm.models.qwen2_5_vl.config import Config
from jaxvlm.sharding import Rules
from jaxvlm.typing import Params

_SHARD_BYTES = 4 * 2**30
_MEBIBYTE = 2**20


def _same(x: np.ndarray) -> np.ndarray:
  return x


def _transposed(x: np.ndarray) -> np.ndarray:
  return x.T


def _patch_kernel(x: np.ndarray) -> np.ndarray:
  """Conv3d kernel (D, C, t, p, p) to a matrix (C·t·p·p, D)."""
  return x.reshape(x.shape[0], -1).T


# transform -> how a piece of its result is read from a slice of the file.
_READ = {
  _same: lambda stored, index: stored[index],
  _transposed: lambda stored, index: stored[index[::-1]].T,
  _patch_kernel: lambda stored, index: _patch_kernel(stored[index[1:]])[
    index[0]
  ],
}

# (our path, transformers' name, transform from theirs to ours). `*` is the
# layer: one name per layer there, one stacked array here. "lm_head" and the
# decoder have had two names over the years; the reader accepts both.
_TABLE: tuple[tuple[str, str, Callable[[np.ndarray], np.ndarray]], ...] = (
  (
    "visual/patch_embed/kernel",
    "visual.patch_embed.proj.weight",
    _patch_kernel,
  ),
  ("visual/blocks/norm1/weight", "visual.blocks.*.norm1.weight", _same),
  ("visual/blocks/norm2/weight", "visual.blocks.*.norm2.weight", _same),
  ("visual/blocks/qkv/kernel", "visual.blocks.*.attn.qkv.weight", _transposed),
  ("visual/blocks/qkv/bias", "visual.blocks.*.attn.qkv.bias", _same),
  (
    "visual/blocks/proj/kernel",
    "visual.blocks.*.attn.proj.weight",
    _transposed,
  ),
  ("visual/blocks/proj/bias", "visual.blocks.*.attn.proj.bias", _same),
  *(
    (f"visual/blocks/mlp/{p}/{ours}", f"visual.blocks.*.mlp.{p}.{name}", f)
    for p in ("gate_proj", "up_proj", "down_proj")
    for ours, name, f in (
      ("kernel", "weight", _transposed),
      ("bias", "bias", _same),
    )
  ),
  ("visual/merger/ln_q/weight", "visual.merger.ln_q.weight", _same),
  ("visual/merger/fc1/kernel", "visual.merger.mlp.0.weight", _transposed),
  ("visual/merger/fc1/bias", "visual.merger.mlp.0.bias", _same),
  ("visual/merger/fc2/kernel", "visual.merger.mlp.2.weight", _transposed),
  ("visual/merger/fc2/bias", "visual.merger.mlp.2.bias", _same),
  ("model/embed_tokens", "language_model.embed_tokens.weight", _same),
  *(
    (f"model/layers/{n}/weight", f"language_model.layers.*.{n}.weight", _same)
    for n in ("input_layernorm", "post_attention_layernorm")
  ),
  *(
    (
      f"model/layers/{p}/{ours}",
      f"language_model.layers.*.self_attn.{p}.{name}",
      f,
    )
    for p in ("q_proj", "k_proj", "v_proj")
    for ours, name, f in (
      ("kernel", "weight", _transposed),
      ("bias", "bias", _same),
    )
  ),
  (
    "model/layers/o_proj/kernel",
    "language_model.layers.*.self_attn.o_proj.weight",
    _transposed,
  ),
  *(
    (
      f"model/layers/mlp/{p}/kernel",
      f"language_model.layers.*.mlp.{p}.weight",
      _transposed,
    )
    for p in ("gate_proj", "up_proj", "down_proj")
  ),
  ("model/norm/weight", "language_model.norm.weight", _same),
  ("model/lm_head", "lm_head.weight", _transposed),
)


def canonical_name(name: str) -> str:
  """Returns the name of a checkpoint tensor without layout differences.

  Official folders say `visual.*`, `model.layers.*`, `lm_head.weight`;
  transformers 5 says `model.visual.*`, `model.language_model.*`.
  """
  name = re.sub(r"^model\.(visual|language_model)\.", r"\1.", name)
  return re.sub(r"^model\.", "language_model.", name)


def from_state_dict(
  config: Config, tensor: Callable[[str], np.ndarray], names: set[str], dtype
) -> Params:
  """Builds the parameter tree from canonically named tensors.

  Args:
    config: the architecture.
    tensor: canonical name -> array.
    names: all canonical names.
    dtype: dtype of the result, or None to keep the stored one.

  Raises:
    ValueError: a missing, surplus or wrongly shaped tensor, by name.
  """
  params: dict[str, Any] = {}
  for entry in _entries(config, names):
    parts = []
    for name in entry.names:
      part = entry.transform(np.asarray(tensor(name)))
      _check_shape(name, part.shape, entry.part_shape)
      parts.append(part if dtype is None else part.astype(dtype))
    _insert(params, entry.path, np.stack(parts) if entry.stacked else parts[0])
  return params


class _Entry(NamedTuple):
  """One parameter and the checkpoint's tensors that it is made of.

  Attributes:
    path: ours.
    shape: ours, layers stacked.
    transform: from theirs to ours.
    stacked: whether each tensor is a layer.
    names: canonical names, in the order of layers.
  """

  path: str
  shape: tuple[int, ...]
  transform: Callable[[np.ndarray], np.ndarray]
  stacked: bool
  names: list[str]

  @property
  def part_shape(self) -> tuple[int, ...]:
    return self.shape[1:] if self.stacked else self.shape


def _entries(config: Config, names: set[str]) -> list[_Entry]:
  """Returns the table of one config, checked against a checkpoint's names."""
  shapes = _shapes(config)
  entries = [
    _Entry(
      path,
      shapes[path],
      transform,
      "*" in pattern,
      [name for _, name in _names(pattern, shapes[path])],
    )
    for path, pattern, transform in _TABLE
    if path in shapes
  ]
  expected = {name for entry in entries for name in entry.names}
  ignored = {"lm_head.weight"} if config.tie_word_embeddings else set()
  missing = sorted(expected - names)
  surplus = sorted(names - expected - ignored)
  if missing or surplus:
    raise ValueError(
      f"the checkpoint does not fit its config.json: missing {missing[:8]}"
      f"{' …' if len(missing) > 8 else ''} ({len(missing)}), unexpected"
      f" {surplus[:8]}{' …' if len(surplus) > 8 else ''} ({len(surplus)});"
      " are all shards in the folder, and does config.json belong to it?"
    )
  return entries


def _check_shape(name: str, found: tuple, expected: tuple) -> None:
  if found != expected:
    raise ValueError(
      f"tensor {name!r} has shape {found} (after transposition),"
      f" expected {expected} from config.json"
    )


def state_dict(
  config: Config, params: Params
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (transformers' name, array) of a stacked parameter tree.

  Args:
    config: the architecture.
    params: stacked tree of parameters, or of their gradients.

  Raises:
    ValueError: a missing, surplus or misshaped leaf, by path: what is not in
      the table would be lost without a word.
  """
  flat = {_path(k): x for k, x in _leaves(params)}
  shapes = _shapes(config)
  found = {path: np.shape(x) for path, x in flat.items()}
  surplus = sorted(set(found.items()) - set(shapes.items()))
  missing = sorted(set(shapes.items()) - set(found.items()))
  if surplus or missing:
    raise ValueError(
      f"the parameters do not fit the config: found {surplus[:4]}"
      f" ({len(surplus)} in all), expected {missing[:4]} ({len(missing)});"
      " layers must be stacked (not `unstack`ed) and adapters merged"
    )
  for path, pattern, _ in _TABLE:
    if path not in flat:
      continue
    value = np.asarray(flat[path])
    prefix = "" if pattern.startswith("lm_head") else "model."
    for i, name in _names(pattern, value.shape):
      part = value if i is None else value[i]
      yield prefix + name, np.ascontiguousarray(_inverse(config, path, part))


def _inverse(config: Config, path: str, x: np.ndarray) -> np.ndarray:
  if path == "visual/patch_embed/kernel":
    geometry = config.layout
    return x.T.reshape(
      -1,
      geometry.channels,
      geometry.temporal_patch,
      geometry.patch,
      geometry.patch,
    )
  if path.endswith("/kernel") or path == "model/lm_head":
    return x.T
  return x


def _shapes(config: Config) -> dict[str, tuple[int, ...]]:
  abstract = jax.eval_shape(lambda: model.init(config, jax.random.key(0)))
  return {_path(k): x.shape for k, x in _leaves(abstract)}


def _names(pattern: str, shape) -> list[tuple[int | None, str]]:
  if "*" not in pattern:
    return [(None, pattern)]
  return [(i, pattern.replace("*", str(i))) for i in range(shape[0])]


def _leaves(tree: Any):
  return jax.tree_util.tree_leaves_with_path(tree)


def _path(key_path) -> str:
  return jax.tree_util.keystr(key_path, simple=True, separator="/")


def _insert(tree: dict, path: str, value: np.ndarray) -> None:
  *parents, leaf = path.split("/")
  for parent in parents:
    tree = tree.setdefault(parent, {})
  tree[leaf] = value


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

  return config, from_state_dict(config, tensor, set(where), dtype)


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
  folder = pathlib.Path(path)
  config = Config.from_folder(folder)
  where = _open(folder)
  entries = _entries(config, set(where))
  places = sharding.partition(
    mesh,
    {e.path: jax.ShapeDtypeStruct(e.shape, np.float32) for e in entries},
    rules,
  )
  params: dict[str, Any] = {}
  for entry in entries:
    slices = []
    for name in entry.names:
      handle, stored = where[name]
      slices.append(handle.get_slice(stored))
      # A view of nothing has the shape and costs no memory.
      shape = np.broadcast_to(np.int8(0), slices[-1].get_shape())
      _check_shape(name, entry.transform(shape).shape, entry.part_shape)
    value = _assemble(entry, slices, places[entry.path], dtype)
    _insert(params, entry.path, value)
  return config, params


def _assemble(entry: _Entry, slices: list, place: Any, dtype: Any) -> jax.Array:
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
  entry: _Entry, slices: list, index: tuple[slice, ...]
) -> np.ndarray:
  """Returns `index` of a parameter, in the stored dtype."""
  read = _READ[entry.transform]
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
  index = folder / "model.safetensors.index.json"
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
      where[canonical_name(name)] = (handle, name)
  return where


def fingerprint(path: str | pathlib.Path) -> str:
  """Returns a digest that tells the weights of two folders apart.

  Name, size, first and last mebibyte of every shard: reading 145 GB of a 72B
  model at every start would take minutes.
  """
  digest = hashlib.sha256()
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

  Args:
    path: folder, made if absent; tokenizer files in it are left alone.
    config: the architecture.
    params: stacked parameter tree; dtypes are kept.
    shard_bytes: start a new shard beyond this size.
  """
  folder = pathlib.Path(path)
  folder.mkdir(parents=True, exist_ok=True)
  shards: list[dict[str, np.ndarray]] = [{}]
  size = total = 0
  for name, value in state_dict(config, params):
    if shards[-1] and size + value.nbytes > shard_bytes:
      shards.append({})
      size = 0
    shards[-1][name] = value
    size += value.nbytes
    total += value.nbytes
  for stale in folder.glob("*.safetensors*"):
    stale.unlink()
  if len(shards) == 1:
    names = ["model.safetensors"]
  else:
    names = [
      f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
      for i in range(len(shards))
    ]
    weight_map = {k: f for f, s in zip(names, shards, strict=True) for k in s}
    (folder / "model.safetensors.index.json").write_text(
      json.dumps(
        {"metadata": {"total_size": total}, "weight_map": weight_map}, indent=1
      )
    )
  for name, shard in zip(names, shards, strict=True):
    safetensors.numpy.save_file(shard, folder / name, metadata={"format": "pt"})
  fields = config.to_dict()
  fields["torch_dtype"] = str(next(iter(shards[0].values())).dtype)
  (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
