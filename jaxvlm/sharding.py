"""Devices: which ones a run has, and how arrays are laid out on them.

A mesh has three axes: `data` (copies of the parameters), `fsdp` (parameters
cut into pieces, collected a layer at a time) and `tensor` (matrix products
cut). Prompts are spread over the first two. Which parameter is cut how is
said by a table of (path, spec) beside the model; XLA does the rest.
"""

import dataclasses
import functools
import logging
import math
import os
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import linear_call
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxvlm.typing import Prompts, PyTree

AXES = ("data", "fsdp", "tensor")
# The axes that prompts are spread over.
ROWS = ("data", "fsdp")

# (regular expression, spec). The expression matches the end of a path, from a
# slash or its start. The spec names the last axes: what stands before them
# (the layers of a stack) is never cut, so one table serves layers stacked and
# unstacked.
Partition = tuple[tuple[str, P], ...]

# Adafactor's sums over rows or columns are a thousandth of their matrix.
_FACTORED = re.compile(r"(?:^|/)v_(?:row|col)/")


def _help(text: str, default: int):
  return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each axis of the mesh; -1, at most once, is all the rest."""

  data: int = _help("copies of the parameters; -1: all the rest", 1)
  fsdp: int = _help("pieces of every parameter; -1: all the rest", -1)
  tensor: int = _help("pieces of every matrix product; -1: all the rest", 1)


def check_mesh(config: MeshConfig) -> None:
  """Raises ValueError for numbers that fit no devices at all."""
  sizes = dataclasses.asdict(config)
  wrong = [name for name, n in sizes.items() if n < 1 and n != -1]
  if wrong or list(sizes.values()).count(-1) > 1:
    raise ValueError(
      f"{_shown(config)}; expected positive numbers and at most one -1 (all"
      " the rest)"
    )


def _shown(config: MeshConfig) -> str:
  sizes = dataclasses.asdict(config)
  return ", ".join(f"mesh.{name} is {n}" for name, n in sizes.items())


def make_mesh(config: MeshConfig, devices: Any = None) -> Mesh:
  """Returns the mesh of all devices of all processes.

  Args:
    config: devices along each axis.
    devices: instead of `jax.devices()`, such as those of a TPU topology.

  Raises:
    ValueError: the axes do not multiply to the number of devices.
  """
  devices = jax.devices() if devices is None else list(devices)
  sizes = dataclasses.asdict(config)
  check_mesh(config)
  rest = [name for name, n in sizes.items() if n == -1]
  known = math.prod(n for n in sizes.values() if n != -1)
  if rest and len(devices) % known == 0:
    sizes[rest[0]] = len(devices) // known
  if math.prod(sizes.values()) != len(devices):
    raise ValueError(
      f"{_shown(config)}, which does not fit {len(devices)} device(s); expected"
      " a product equal to the number of devices: set one axis to -1 to take"
      " all the rest, and the others to divisors"
    )
  return jax.make_mesh(
    tuple(sizes.values()),
    AXES,
    axis_types=(AxisType.Auto,) * len(AXES),
    devices=devices,
  )


def partition(mesh: Mesh, shapes: PyTree, rules: Partition) -> PyTree:
  """Returns a NamedSharding for every leaf of a tree of parameters.

  Optimizer states take the rule of the parameter in whose path theirs ends;
  scalars need no rule. An axis that does not divide stays whole, and one
  warning names all of them.

  Args:
    mesh: of `make_mesh`.
    shapes: tree of arrays or of `jax.ShapeDtypeStruct`.
    rules: exactly one must match the path of every leaf.

  Raises:
    ValueError: no rule or more than one matches a path, by name.
  """
  specs, dropped = _specs(mesh, shapes, rules)
  if dropped:
    logging.warning(
      "%d array(s) are less spread than their rules say: %s",
      len(dropped),
      "; ".join(dropped),
    )
  return jax.tree.map(
    lambda spec: NamedSharding(mesh, spec),
    specs,
    is_leaf=lambda x: isinstance(x, P),
  )


def fallbacks(mesh: Mesh, shapes: PyTree, rules: Partition) -> list[str]:
  """Returns what `partition` warns about: path, axis, size."""
  return _specs(mesh, shapes, rules)[1]


def _specs(
  mesh: Mesh | AbstractMesh, shapes: PyTree, rules: Partition
) -> tuple[PyTree, list[str]]:
  """Returns (a spec for every leaf, descriptions of what does not divide)."""
  compiled = [(re.compile(f"(?:^|.*/)(?:{p})"), spec) for p, spec in rules]
  dropped: list[str] = []

  def one(key_path, x) -> P:
    path = jax.tree_util.keystr(key_path, simple=True, separator="/")
    if math.prod(x.shape) == 1 or _FACTORED.search(path):
      return P()
    found = [(r.pattern, spec) for r, spec in compiled if r.fullmatch(path)]
    if len(found) != 1:
      raise ValueError(
        f"parameter {path} of shape {tuple(x.shape)} matches"
        f" {[pattern for pattern, _ in found] or 'no rule'}, expected exactly"
        " one rule: mend the model's partition table"
      )
    spec = (None,) * (len(x.shape) - len(found[0][1])) + tuple(found[0][1])
    return _fit(mesh, x.shape, spec, path, dropped)

  return jax.tree_util.tree_map_with_path(one, shapes), dropped


def _fit(mesh, shape, spec, path="", dropped: list[str] | None = None) -> P:
  """Returns `spec` without the axes that do not divide `shape`."""
  fitted = []
  for size, names in zip(shape, spec, strict=True):
    names = (names,) if isinstance(names, str) else names or ()
    kept, parts = [], 1
    for name in names:
      if name not in mesh.shape:  # somebody else's mesh
        continue
      if size % (parts * mesh.shape[name]) == 0:
        kept.append(name)
        parts *= mesh.shape[name]
      elif dropped is not None:
        dropped.append(f"{path} {size} over {name}={mesh.shape[name]}")
    fitted.append(tuple(kept) if len(kept) > 1 else kept[0] if kept else None)
  return P(*fitted)


def prompt_axes(tree: PyTree) -> PyTree:
  """Returns the prompt axis of every leaf: positions i32[A, N, S] have
  it second, everything else first."""

  def axes(x):
    if not isinstance(x, Prompts):
      return 0
    return jax.tree.map(lambda _: 0, x)._replace(positions=1)

  return jax.tree.map(axes, tree, is_leaf=lambda x: isinstance(x, Prompts))


def batch_sharding(mesh: Mesh, tree: PyTree) -> PyTree:
  """Returns a NamedSharding for every leaf: prompts over data and fsdp.

  Args:
    mesh: of `make_mesh`.
    tree: Prompts, Batch or whatever has a prompt axis in every leaf; arrays
      or `jax.ShapeDtypeStruct`, of all processes together.

  Raises:
    ValueError: the number of prompts does not divide.
  """

  def one(x, axis):
    check_rows(mesh, x.shape[axis])
    return NamedSharding(mesh, P(*(None,) * axis, ROWS))

  return jax.tree.map(one, tree, prompt_axes(tree))


def shard_batch(mesh: Mesh, tree: PyTree) -> PyTree:
  """Returns global arrays of a batch of which each process holds its rows.

  Args:
    mesh: of `make_mesh`.
    tree: host arrays; those of `local_rows` where there are more processes.

  Raises:
    ValueError: the number of prompts does not divide.
  """
  # Processes along `tensor` hold the same rows.
  axes = prompt_axes(tree)
  held = len(local_rows(mesh, row_parts(mesh)))

  def one(x, axis):
    shape = list(np.shape(x))
    if shape[axis] % held == 0:
      shape[axis] = shape[axis] // held * row_parts(mesh)
    check_rows(mesh, shape[axis])
    sharding = NamedSharding(mesh, P(*(None,) * axis, ROWS))
    return jax.make_array_from_process_local_data(sharding, x, tuple(shape))

  return jax.tree.map(one, tree, axes)


def local_rows(mesh: Mesh, count: int) -> np.ndarray:
  """Returns which of `count` prompts this process holds, ascending i64[n].

  Raises:
    ValueError: `count` does not divide.
  """
  check_rows(mesh, count)
  places = NamedSharding(mesh, P(ROWS)).addressable_devices_indices_map(
    (count,)
  )
  rows = np.arange(count)
  return np.unique(np.concatenate([rows[index] for index in places.values()]))


def row_parts(mesh: Mesh | AbstractMesh | None = None) -> int:
  """Returns over how many pieces prompts are spread.

  Args:
    mesh: None takes the one set by `jax.set_mesh`; without one it is 1.
  """
  mesh = jax.sharding.get_abstract_mesh() if mesh is None else mesh
  return math.prod(mesh.shape.get(name, 1) for name in ROWS)


def check_rows(mesh: Mesh | AbstractMesh | None, count: int) -> None:
  """Raises ValueError unless `count` prompts spread evenly."""
  parts = row_parts(mesh)
  if count % parts:
    raise ValueError(
      f"a batch (or micro-batch) of {count} prompts does not divide over"
      f" {parts} devices (mesh.data × mesh.fsdp): choose a multiple of {parts}"
      " prompts, or give devices to mesh.tensor"
    )


def constrain(x: jax.Array, *spec: Any) -> jax.Array:
  """Returns `x` laid out by `spec` on the mesh set by `jax.set_mesh`.

  Without a mesh, or on one device, `x` itself. Axes that the mesh has not,
  that are manual (inside `shard_map`) or that do not divide stay whole.

  Args:
    x: array.
    *spec: for the first axes: name, names or None; the rest is whole.
  """
  fitted = fit(x.shape, *spec)
  return x if fitted is None else jax.lax.with_sharding_constraint(x, fitted)


def fit(shape: tuple[int, ...], *spec: Any) -> P | None:
  """Returns what `constrain` lays an array of `shape` out by; None: no mesh."""
  mesh = _auto_mesh()
  if mesh is None:
    return None
  spec = spec + (None,) * (len(shape) - len(spec))
  known = _auto_axes(mesh)

  def keep(names):
    names = (names,) if isinstance(names, str) else names or ()
    return tuple(name for name in names if name in known)

  return _fit(mesh, shape, tuple(keep(names) for names in spec))


def constrain_tree(tree: PyTree, rules: Partition) -> PyTree:
  """Returns parameters, gradients or an optimizer state laid out by `rules`.

  As `constrain`: nothing happens without a mesh or without rules.
  """
  mesh = _auto_mesh()
  if mesh is None or not rules:
    return tree
  specs, _ = _specs(mesh, tree, rules)
  return jax.tree.map(jax.lax.with_sharding_constraint, tree, specs)


def collect(rules: Partition, prefix: str, tree: PyTree, dtype: Any) -> PyTree:
  """Returns one layer's parameters, whole along `fsdp`, ready to be used.

  Kernels travel in the compute type. Their gradients go back the same way, in
  pieces: a sum that is cut at once becomes a reduce-scatter. Without a mesh,
  or on one device, `tree` itself.

  Args:
    rules: of the model.
    prefix: path of the layer in the model's tree.
    tree: parameters of one layer.
    dtype: compute dtype.
  """
  mesh = _auto_mesh()
  if mesh is None:
    return tree
  names = prefix.split("/")
  outer = functools.reduce(lambda t, n: {n: t}, reversed(names), tree)
  specs, _ = _specs(mesh, outer, rules)
  for name in names:
    specs = specs[name]

  def one(path, x, spec):
    whole = P(*(None if _cut_by_fsdp(names) else names for names in spec))
    is_kernel = path[-1].key == "kernel"
    return _whole(x, spec, whole, dtype if is_kernel else x.dtype)

  return jax.tree_util.tree_map_with_path(one, tree, specs)


def _whole(x: jax.Array, piece: P, whole: P, dtype: Any) -> jax.Array:
  """Returns `x`, cut as `piece`, in another type and laid out as `whole`.

  Not left to differentiation, which would lay the gradient out as `whole`
  before it is cut: a sum that every device gets all of.
  """
  lay_out = jax.lax.with_sharding_constraint

  def forward(_, x):
    # Constrain the cast array before and after the gather; else XLA may gather
    # float32 and cast afterwards.
    return lay_out(lay_out(x.astype(dtype), piece), whole)

  def backward(_, grad):
    return lay_out(grad, piece).astype(x.dtype)

  if not jnp.issubdtype(x.dtype, jnp.floating):  # 8 bits, frozen
    return forward((), x)
  return linear_call(forward, backward, (), x)


def keeps_pieces(
  body: Callable[..., Any], *, static_argnums: tuple[int, ...] = ()
) -> Callable[..., Any]:
  """Returns `body` whose backward pass collects its parameters again.

  Left alone, automatic differentiation would keep what `collect` made of
  every layer: the whole model on every device. Casts and layouts are made
  again, all else is kept. Without a mesh, or on one device, `body` itself.
  """
  if _auto_mesh() is None:
    return body
  again = ("convert_element_type", "sharding_constraint", "linear_call")
  return jax.checkpoint(
    body,
    policy=lambda primitive, *_, **__: primitive.name not in again,
    static_argnums=static_argnums,
  )


def _cut_by_fsdp(names) -> bool:
  return names == "fsdp" or (isinstance(names, tuple) and "fsdp" in names)


def _auto_axes(mesh: AbstractMesh) -> list[str]:
  kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
  return [name for name, kind in kinds if kind == AxisType.Auto]


def _auto_mesh() -> AbstractMesh | None:
  """Returns the mesh in force if XLA may spread an array over it."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or math.prod(mesh.shape[n] for n in _auto_axes(mesh)) == 1:
    return None
  return mesh


def device_layout() -> str:
  """Returns the devices that a run's bits depend on, as text.

  Reductions are split over cores and devices, so equality to the bit is
  promised on the same layout only.
  """
  devices = jax.devices()
  kind = f"{len(devices)} x {devices[0].device_kind}"
  if devices[0].platform == "cpu":
    linux = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if linux else os.cpu_count()
    kind += f", {cores} cores"
  return f"{kind}, {jax.process_count()} process(es)"
