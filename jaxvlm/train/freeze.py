"""Training a part of the parameters: two trees that add up to one.

Frozen parameters are not in the state at all: they take no gradient, no
moments and no memory twice, and do not count in the gradient's norm. The
trained part may be a part of a model's own parameters, or adapters beside
them (`models.lora`).
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvlm.train.objectives.inputs import frozen_params
from jaxvlm.train.step import Objective
from jaxvlm.typing import Params

# Few numbers, or still to be trained on.
_EXACT = ("kernel_scale", "lora_a", "lora_b", "lora_scale")


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
  """Returns the union of two nested dicts with disjoint leaves.

  Raises:
    ValueError: both have the same leaf.
  """
  merged = dict(a)
  for name, part in b.items():
    if name in a and not (isinstance(a[name], dict) and isinstance(part, dict)):
      raise ValueError(
        f"both trees have {name!r}, expected disjoint leaves: a parameter is"
        " either trained or frozen"
      )
    merged[name] = merge_params(a[name], part) if name in a else part
  return merged


def stored_as(params: Params, dtype: Any) -> Params:
  """Returns frozen parameters in the type in which they are multiplied.

  Half the memory, and no product changes. What is few and exact stays: the
  scales of int8 kernels, and adapters, from which training goes on.

  Args:
    params: nested dict; leaves that are not float32 stay as they are.
    dtype: of the products.
  """

  def one(path, x):
    stays = x.dtype != jnp.float32 or path[-1].key in _EXACT
    return x if stays else x.astype(dtype)

  return jax.tree_util.tree_map_with_path(one, params)


def with_frozen(function: Callable[..., Any]) -> Callable[..., Any]:
  """Returns the objective of a part: `frozen["base"]` holds the rest.

  A `frozen["reference"]` is the same part at another time (the start of RL):
  the rest completes it too, and lies in memory once.

  Args:
    function: (params, frozen, …): an `Objective`, or what a `BatchTotals`
      measures with.
  """

  def partial(trainable, frozen, *rest):
    base = frozen_params(frozen, "base", "training a part of the parameters")
    params = merge_params(trainable, base)
    if "reference" in frozen:
      reference = merge_params(frozen["reference"], base)
      frozen = {**frozen, "reference": reference}
    return function(params, frozen, *rest)

  return partial


def with_base_as_reference(objective: Objective) -> Objective:
  """Returns the objective whose `frozen["reference"]` is `frozen["base"]`.

  What LoRA departs from is its base without adapters: the reference costs no
  second copy. Not for a base that lacks the trained part (`split_params`).
  """

  def shared(trainable, frozen, batch, totals):
    base = frozen_params(frozen, "base", "the base as reference")
    frozen = {**frozen, "reference": base}
    return objective(trainable, frozen, batch, totals)

  return shared
