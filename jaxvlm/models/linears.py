"""The Linear layers of a parameter tree, by path.

A Linear's leaves are one dict, {kernel, bias, …}; what form its matrix has is
told by their names (`layers.Linear`). Here they are found and exchanged.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jaxvlm.typing import Params

Path = tuple[str, ...]
# The leaves of one Linear, by name.
Leaves = Mapping[str, Any]


def find(params: Params, pattern: str, leaf: str = "kernel") -> dict[Path, Any]:
  """Returns the leaves of every Linear whose `leaf` matches, by path.

  Args:
    params: nested dict of arrays or shapes, layers stacked.
    pattern: regular expression, matched from the start of paths such as
      `model/layers/q_proj/kernel`.
    leaf: the name that a Linear must have among its leaves.

  Raises:
    ValueError: nothing matches.
  """
  found = {
    path: leaves
    for path, leaves in _dicts(params, ())
    if leaf in leaves and re.match(pattern, "/".join((*path, leaf)))
  }
  if not found:
    some = [
      "/".join((*path, leaf))
      for path, leaves in _dicts(params, ())
      if leaf in leaves
    ]
    raise ValueError(
      f"pattern {pattern!r} matches none of the {len(some)} leaves named"
      f" {leaf!r}, expected a part of {some[:3]} …; layers must be stacked"
    )
  return found


def replace(params: Params, leaves: Mapping[Path, Leaves]) -> Params:
  """Returns `params` with other leaves at these paths."""

  def at(tree, path):
    if path in leaves:
      return dict(leaves[path])
    if not isinstance(tree, dict):
      return tree
    return {name: at(part, (*path, name)) for name, part in tree.items()}

  return at(params, ())


def nest(leaves: Mapping[Path, Leaves]) -> Params:
  """Returns the nested dict that has these leaves and nothing else."""
  tree: dict[str, Any] = {}
  for path, those in leaves.items():
    inner = tree
    for name in path:
      inner = inner.setdefault(name, {})
    inner.update(those)
  return tree


def _dicts(tree: Params, path: Path) -> Iterator[tuple[Path, dict]]:
  if isinstance(tree, dict):
    yield path, tree
    for name, part in tree.items():
      yield from _dicts(part, (*path, name))
