"""Which parameter is which tensor of a checkpoint, and how it is turned.

One table maps parameter paths to transformers' names.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvlm import distributed
from jaxvlm.models.qwen2_5_vl import model
from jaxvlm.models.qwen2_5_vl.config import Config
from jaxvlm.typing import Params


def _same(x: np.ndarray) -> np.ndarray:
  return x


def _transposed(x: np.ndarray) -> np.ndarray:
  return x.T


def _patch_kernel(x: np.ndarray) -> np.ndarray:
  """Conv3d kernel (D, C, t, p, p) to a matrix (C·t·p·p, D)."""
  return x.reshape(x.shape[0], -1).T


# transform -> how a piece of its result is read from a slice of the file.
READ = {
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
  for entry in entries_of(config, names):
    parts = []
    for name in entry.names:
      part = entry.transform(np.asarray(tensor(name)))
      check_shape(name, part.shape, entry.part_shape)
      parts.append(part if dtype is None else part.astype(dtype))
    insert(params, entry.path, np.stack(parts) if entry.stacked else parts[0])
  return params


class Entry(NamedTuple):
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


def entries_of(config: Config, names: set[str]) -> list[Entry]:
  """Returns the table of one config, checked against a checkpoint's names."""
  shapes = _shapes(config)
  entries = [
    Entry(
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


def check_shape(name: str, found: tuple, expected: tuple) -> None:
  if found != expected:
    raise ValueError(
      f"tensor {name!r} has shape {found} (after transposition),"
      f" expected {expected} from config.json"
    )


def state_dict(
  config: Config, params: Params
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (transformers' name, array) of a stacked parameter tree.

  One tensor at a time comes to the host, also from devices of other hosts;
  with several processes all of them run it together.

  Args:
    config: the architecture.
    params: stacked tree of parameters, or of their gradients; NumPy or global
      arrays.

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
    value = flat[path]
    prefix = "" if pattern.startswith("lm_head") else "model."
    for i, name in _names(pattern, np.shape(value)):
      part = distributed.gather(value if i is None else value[i])
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


def insert(tree: dict, path: str, value: np.ndarray) -> None:
  *parents, leaf = path.split("/")
  for parent in parents:
    tree = tree.setdefault(parent, {})
  tree[leaf] = value
