"""A Hugging Face folder as sharded arrays of ours, and back, both verified."""

import pathlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from jaxvlm import distributed, models
from jaxvlm.tools import publish
from jaxvlm.train import manifest, trained
from jaxvlm.train.checkpoint import Checkpoints
from jaxvlm.typing import Params

ARRAYS = "checkpoints"  # folder of the arrays


def to_arrays(
  source: pathlib.Path, out: pathlib.Path, mesh: jax.sharding.Mesh
) -> int:
  """Writes a Hugging Face folder as sharded arrays; returns how many.

  Raises:
    FileNotFoundError, ValueError: no whole folder, or arrays are there already.
    OSError: what was written is not what was read.
  """
  # What a start that was cut off left is no array yet, and is swept.
  if manifest.steps(out / ARRAYS):
    raise ValueError(
      f"{out} holds {ARRAYS} already, expected another folder: nothing is"
      " replaced"
    )
  # Names, shapes and files are judged before the first tensor is read.
  models.check_pretrained(source)
  student = models.fingerprint(source)
  _, params = models.load_sharded(source, mesh, None)
  Checkpoints(out / ARRAYS, identity={"student": student}).save(
    0, {"trainable": params}
  )
  del params
  if distributed.is_writer():
    publish.copy_beside(source, out, "config.json")
  distributed.barrier(f"convert {out}")
  return _compare(source, _read(out, mesh), mesh)


def to_folder(
  source: pathlib.Path, out: pathlib.Path, mesh: jax.sharding.Mesh
) -> int:
  """Writes arrays of `to_arrays` as a Hugging Face folder; returns how many.

  Raises:
    FileNotFoundError, ValueError: no whole arrays, or the folders are the same.
    OSError: what was written is not what was read.
  """
  if out.resolve() == source.resolve():
    raise ValueError(f"out is {out}, expected another folder than model_dir")
  params = _read(source, mesh)
  models.save_pretrained(out, models.read_config(source), params)
  if distributed.is_writer():
    publish.copy_beside(source, out)
  distributed.barrier(f"convert {out}")
  return _compare(out, params, mesh)


def _read(folder: pathlib.Path, mesh: jax.sharding.Mesh) -> Params:
  rules = models.partition_rules(models.read_config(folder))
  _, _, params = trained.load_trained(folder / ARRAYS, mesh, rules)
  return params


def _compare(
  folder: pathlib.Path, params: Params, mesh: jax.sharding.Mesh
) -> int:
  """Raises OSError unless a folder holds the bits of these arrays."""
  _, stored = models.stream_sharded(folder, mesh, None)
  ours = dict(_leaves(params))
  for name, value in stored:
    other = ours.pop(name, None)
    if other is None or other.dtype != value.dtype or not _equal(value, other):
      raise OSError(
        f"{name} of {folder} is not what was converted: the disk or the memory"
        " is at fault; remove what was written and convert again"
      )
  if ours:
    raise OSError(f"{folder} lacks {', '.join(sorted(ours)[:4])}")
  return len(dict(_leaves(params)))


@jax.jit
def _equal(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns whether two arrays of floats have the same bits; NaN is no news."""
  bits = {2: jnp.uint16, 4: jnp.uint32}[a.dtype.itemsize]
  a, b = (jax.lax.bitcast_convert_type(x, bits) for x in (a, b))
  return jnp.all(a == b)


def _leaves(params: Params) -> Iterator[tuple[str, jax.Array]]:
  for path, leaf in jax.tree.leaves_with_path(params):
    yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf
