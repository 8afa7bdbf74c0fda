"""Trees of arrays as a checkpoint stores them: by path, described, compared."""

import logging
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvlm.typing import PyTree

ARRAYS = (jax.Array, np.ndarray, np.generic)


def flatten(what: str, tree: PyTree, kinds: tuple[type, ...]) -> dict[str, Any]:
  """Returns the leaves by path, such as "trainable/head/kernel"."""
  named = {}
  for path, leaf in jax.tree.leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if not isinstance(leaf, kinds) or jnp.issubdtype(
      leaf.dtype, jax.dtypes.extended
    ):
      raise ValueError(
        f"{what}: {name} is a {type(leaf).__name__}, expected an array of "
        "numbers; use np.asarray for numbers, jax.random.key_data for keys"
      )
    if name in named:
      raise ValueError(f"{what}: two leaves are named {name}; rename one")
    named[name] = leaf
  if not any(leaf.size for leaf in named.values()):
    raise ValueError(f"{what}: found no values, expected a tree of arrays")
  return named


def describe(leaf) -> str:
  """Returns dtype and shape, such as "float32[2, 3]"."""
  return f"{leaf.dtype}{list(leaf.shape)}"


def _any_float(description: str) -> str:
  """Returns a description without the precision of its floats."""
  return re.sub(r"^b?float\d+\[", "float[", description)


def target_of(leaf) -> np.ndarray | jax.ShapeDtypeStruct:
  """Returns what tells orbax where a leaf goes."""
  sharding = getattr(leaf, "sharding", None)
  if sharding is None:
    # NumPy arrays ask for NumPy arrays; this one takes no memory.
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def empty(target) -> np.ndarray | jax.Array:
  """Returns an array of size 0, which orbax does not store."""
  if isinstance(target, np.ndarray):
    return target
  return jax.device_put(np.zeros(target.shape, target.dtype), target.sharding)


def check_same(
  where: str, saved: Mapping[str, str], wanted: Mapping[str, Any]
) -> None:
  """Raises ValueError unless a stored tree is the one that is asked for.

  Another precision of floats is a warning.

  Args:
    where: what an error calls the stored one.
    saved: name -> description, as it was stored.
    wanted: name -> array or shape.
  """
  expected = {name: describe(x) for name, x in wanted.items()}
  pairs = {
    name: (saved.get(name, "nothing"), expected.get(name, "nothing"))
    for name in sorted(saved.keys() | expected.keys())
  }
  wrong = [
    f"{name}: found {found}, expected {asked}"
    for name, (found, asked) in pairs.items()
    if _any_float(found) != _any_float(asked)
  ]
  if wrong:
    raise ValueError(
      f"{where} holds another state, {len(wrong)} of {len(pairs)} arrays "
      f"differ: {'; '.join(wrong[:5])}; restore with the model and the "
      "optimizer it was saved with"
    )
  casts = [name for name, (found, asked) in pairs.items() if found != asked]
  if casts:
    logging.warning(
      "%s: %d arrays change precision, first %s: %s to %s",
      where,
      len(casts),
      casts[0],
      *pairs[casts[0]],
    )
