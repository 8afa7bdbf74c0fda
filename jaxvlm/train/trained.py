"""What a run has trained, read without the program that trained it."""

import math
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp

from jaxvlm import distributed, sharding
from jaxvlm.sharding import Partition
from jaxvlm.train import checkpoint
from jaxvlm.train import manifest as manifests
from jaxvlm.typing import Params

_STORED = re.compile(r"(\w+)\[([\d, ]*)\]")
_PREFIX = "trainable/"  # of `TrainState`, in the manifest's names


def load_trained(
  folder: pathlib.Path,
  mesh: jax.sharding.Mesh,
  rules: Partition,
  *,
  step: int | None = None,
) -> tuple[int, dict[str, str], Params]:
  """Returns (step, identity, trained parameters) of a whole checkpoint.

  Args:
    folder: `checkpoints` of a run; all processes see it.
    mesh: where the parameters go.
    rules: how they lie there.
    step: default the newest one whose every byte is as it was written.

  Raises:
    ValueError: no whole checkpoint, or one without trained parameters.
  """
  chosen, damages = distributed.from_writer(
    manifests.newest_whole(folder, step) if distributed.is_writer() else None
  )
  if chosen is None:
    found = "; ".join(text for _, text in damages) or "no manifest"
    raise ValueError(
      f"{folder}: found {found}, expected a whole checkpoint: give the folder"
      " `checkpoints` of a stage"
    )
  body = manifests.read(folder, chosen)
  shapes = {
    name.removeprefix(_PREFIX): _shape(text)
    for name, text in body["tree"].items()
    if name.startswith(_PREFIX)
  }
  if not shapes:
    raise ValueError(
      f"{folder}: step {chosen} has no {_PREFIX}…, expected the state of a run"
    )
  places = sharding.partition(mesh, shapes, rules)
  targets = {
    _PREFIX + name: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=places[name]
    )
    for name, x in shapes.items()
  }
  arrays = checkpoint.read_arrays(folder / str(chosen), targets)
  return chosen, body["identity"], _nested(arrays)


def _shape(description: str) -> jax.ShapeDtypeStruct:
  """Returns what `float32[2, 3]` describes."""
  dtype, sides = _STORED.fullmatch(description).groups()
  shape = tuple(int(n) for n in sides.split(",") if n.strip())
  assert math.prod(shape), description  # empty arrays are not stored
  return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def _nested(arrays: dict[str, Any]) -> Params:
  tree: dict[str, Any] = {}
  for name, value in arrays.items():
    *parents, leaf = name.removeprefix(_PREFIX).split("/")
    inner = tree
    for parent in parents:
      inner = inner.setdefault(parent, {})
    inner[leaf] = value
  return tree
