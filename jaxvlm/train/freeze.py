"""Training a part of the parameters: two trees that add up to one.

Frozen parameters are not in the state at all: they take no gradient, no
moments and no memory twice, and do not count in the gradient's norm.
"""

import re
from typing import Any

import jax

from jaxvlm.train.step import Objective
from jaxvlm.typing import Params


def split_params(params: Params, pattern: str) -> tuple[Params, Params]:
  """Returns (trainable, frozen): two nested dicts with disjoint leaves.

  Args:
    params: nested dict.
    pattern: regular expression, matched from the start of paths such as
      `visual/blocks/qkv/kernel`.

  Raises:
    ValueError: the pattern freezes nothing, or everything.
  """
  trainable: dict[str, Any] = {}
  frozen: dict[str, Any] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    names = [key.key for key in path]
    tree = frozen if re.match(pattern, "/".join(names)) else trainable
    for name in names[:-1]:
      tree = tree.setdefault(name, {})
    tree[names[-1]] = leaf
  if not frozen or not trainable:
    raise ValueError(
      f"pattern {pattern!r} freezes {'nothing' if trainable else 'everything'},"
      " expected a part of the parameters; paths look like"
      " visual/blocks/qkv/kernel"
    )
  return trainable, frozen


def merge_params(a: Params, b: Params) -> Params:
  """Returns the union of two nested dicts with disjoint leaves."""
  merged = dict(a)
  for name, part in b.items():
    merged[name] = merge_params(a[name], part) if name in a else part
  return merged


def with_frozen(objective: Objective) -> Objective:
  """Returns the objective of a part: `frozen["base"]` holds the rest."""

  def partial(trainable, frozen, batch, totals):
    params = merge_params(trainable, frozen["base"])
    return objective(params, frozen, batch, totals)

  return partial
