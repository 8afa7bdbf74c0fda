"""Which parameter is which tensor of a checkpoint, and how it is turned.

A family's table maps parameter paths to transformers' names; that of the
decoder is common to all. Nothing here knows a family.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvlm import distributed
from jaxvlm.typing import Params


class Transform(NamedTuple):
  """How a tensor becomes a parameter, and back.

  Attributes:
    apply: theirs -> ours.
    piece: (slice of a file, index of ours) -> that piece of ours.
    undo: (configuration, ours) -> theirs.
  """

  apply: Callable[[np.ndarray], np.ndarray]
  piece: Callable[[Any, tuple[slice, ...]], np.ndarray]
  undo: Callable[[Any, np.ndarray], np.ndarray]


SAME = Transform(
  lambda x: x, lambda stored, index: stored[index], lambda config, x: x
)
TRANSPOSED = Transform(
  lambda x: x.T,
  lambda stored, index: stored[index[::-1]].T,
  lambda config, x: x.T,
)


def _patches(x: np.ndarray) -> np.ndarray:
  """Conv3d kernel (D, C, t, p, p) to a matrix (C·t·p·p, D)."""
  return x.reshape(x.shape[0], -1).T


def _conv3d(config: Any, x: np.ndarray) -> np.ndarray:
  g = config.layout
  return x.T.reshape(-1, g.channels, g.temporal_patch, g.patch, g.patch)


# Of a convolution whose steps are as wide as its kernel: one product a patch.
PATCH_KERNEL = Transform(
  _patches,
  lambda stored, index: _patches(stored[index[1:]])[index[0]],
  _conv3d,
)

# (our path, canonical name, transform). `*` is the layer: one name per layer
# there, one stacked array here.
Row = tuple[str, str, Transform]


class Table(NamedTuple):
  """The tensors of a family.

  Attributes:
    rows: all that a configuration may have; those that it has not are skipped.
    written: beginning of a canonical name -> what transformers writes there.
  """

  rows: tuple[Row, ...]
  written: Mapping[str, str]


class Naming(NamedTuple):
  """The tensors of one configuration.

  Attributes:
    table: of its family.
    config: the configuration.
    shapes: path -> shape of every parameter, layers stacked.
  """

  table: Table
  config: Any
  shapes: Mapping[str, tuple[int, ...]]


def linear(path: str, name: str) -> tuple[Row, ...]:
  """Returns the rows of a Linear: its kernel, and its bias if it has one."""
  return (
    (f"{path}/kernel", f"{name}.weight", TRANSPOSED),
    (f"{path}/bias", f"{name}.bias", SAME),
  )


_LAYER = "language_model.layers.*"
DECODER: tuple[Row, ...] = (
  ("model/embed_tokens", "language_model.embed_tokens.weight", SAME),
  *(
    (f"model/layers/{n}/weight", f"{_LAYER}.{n}.weight", SAME)
    for n in ("input_layernorm", "post_attention_layernorm")
  ),
  *(
    (f"model/layers/{n}/weight", f"{_LAYER}.self_attn.{n}.weight", SAME)
    for n in ("q_norm", "k_norm")
  ),
  *(
    row
    for p in ("q_proj", "k_proj", "v_proj", "o_proj")
    for row in linear(f"model/layers/{p}", f"{_LAYER}.self_attn.{p}")
  ),
  *(
    row
    for p in ("gate_proj", "up_proj", "down_proj")
    for row in linear(f"model/layers/mlp/{p}", f"{_LAYER}.mlp.{p}")
  ),
  ("model/norm/weight", "language_model.norm.weight", SAME),
  ("model/lm_head", "lm_head.weight", TRANSPOSED),
)
# Decoder and tower have had two names over the years: the reader accepts both
# (`canonical_name`), transformers 5 writes these.
WITH_TOWER = {
  "visual.": "model.visual.",
  "language_model.": "model.language_model.",
}
# Buffers that older folders hold: made from the configuration, never read.
_DERIVED = re.compile(r".*\.rotary_emb\.inv_freq")


def naming(
  table: Table, config: Any, init: Callable[[Any, jax.Array], Params]
) -> Naming:
  """Returns the tensors of a configuration; makes no array."""
  abstract = jax.eval_shape(lambda: init(config, jax.random.key(0)))
  shapes = {_path(k): x.shape for k, x in _leaves(abstract)}
  return Naming(table, config, shapes)


def canonical_name(name: str) -> str:
  """Returns the name of a checkpoint tensor without layout differences.

  Official folders say `visual.*`, `model.layers.*`, `lm_head.weight`;
  transformers 5 says `model.visual.*`, `model.language_model.*`.
  """
  name = re.sub(r"^model\.(visual|language_model)\.", r"\1.", name)
  return re.sub(r"^model\.", "language_model.", name)


def from_state_dict(
  naming: Naming, tensor: Callable[[str], np.ndarray], names: set[str], dtype
) -> Params:
  """Builds the parameter tree from canonically named tensors.

  Args:
    naming: of the configuration.
    tensor: canonical name -> array.
    names: all canonical names.
    dtype: dtype of the result, or None to keep the stored one.

  Raises:
    ValueError: a missing, surplus or wrongly shaped tensor, by name.
  """
  params: dict[str, Any] = {}
  for entry in entries_of(naming, names):
    parts = []
    for name in entry.names:
      part = entry.transform.apply(np.asarray(tensor(name)))
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
  transform: Transform
  stacked: bool
  names: list[str]

  @property
  def part_shape(self) -> tuple[int, ...]:
    return self.shape[1:] if self.stacked else self.shape


def entries_of(naming: Naming, names: set[str]) -> list[Entry]:
  """Returns the table of one config, checked against a checkpoint's names."""
  shapes = naming.shapes
  entries = [
    Entry(
      path,
      shapes[path],
      transform,
      "*" in pattern,
      [name for _, name in _names(pattern, shapes[path])],
    )
    for path, pattern, transform in naming.table.rows
    if path in shapes
  ]
  expected = {name for entry in entries for name in entry.names}
  ignored = {"lm_head.weight"} if naming.config.tie_word_embeddings else set()
  ignored |= {name for name in names if _DERIVED.fullmatch(name)}
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
  naming: Naming, params: Params
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (transformers' name, array) of a stacked parameter tree.

  One tensor at a time comes to the host, also from devices of other hosts;
  with several processes all of them run it together.

  Args:
    naming: of the configuration.
    params: stacked tree of parameters, or of their gradients; NumPy or global
      arrays.

  Raises:
    ValueError: a missing, surplus or misshaped leaf, by path: what is not in
      the table would be lost without a word.
  """
  flat = {_path(k): x for k, x in _leaves(params)}
  shapes = naming.shapes
  found = {path: np.shape(x) for path, x in flat.items()}
  surplus = sorted(set(found.items()) - set(shapes.items()))
  missing = sorted(set(shapes.items()) - set(found.items()))
  if surplus or missing:
    raise ValueError(
      f"the parameters do not fit the config: found {surplus[:4]}"
      f" ({len(surplus)} in all), expected {missing[:4]} ({len(missing)});"
      " layers must be stacked (not `unstack`ed) and adapters merged"
    )
  for path, pattern, transform in naming.table.rows:
    if path not in flat:
      continue
    value = flat[path]
    for i, name in _names(pattern, np.shape(value)):
      part = distributed.gather(value if i is None else value[i])
      theirs = transform.undo(naming.config, part)
      yield _written(naming.table, name), np.ascontiguousarray(theirs)


def _written(table: Table, name: str) -> str:
  """Returns transformers' name of a canonical one."""
  for start, written in table.written.items():
    if name.startswith(start):
      return written + name.removeprefix(start)
  return name


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
