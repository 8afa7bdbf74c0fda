"""Metrics that add up: means as (total, weight) pairs, and largest values.

A mean of means over micro-batches with different token counts is wrong;
totals and weights added separately, and divided once, are right.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Mean(NamedTuple):
  """A mean that has not been divided yet: value = total / weight.

  Attributes:
    total: f32[] sum of weighted values.
    weight: f32[] sum of weights.
  """

  total: jax.Array
  weight: jax.Array

  def __add__(self, other: "Mean") -> "Mean":
    return Mean(self.total + other.total, self.weight + other.weight)

  def value(self) -> jax.Array:
    """Returns total / weight, and 0 where nothing was counted."""
    safe = jnp.where(self.weight == 0, 1.0, self.weight)
    return jnp.where(self.weight == 0, 0.0, self.total / safe)


class Max(NamedTuple):
  """The largest of values that are not negative; `+` joins two parts.

  Attributes:
    largest: f32[] so far, NaN if any value was NaN.
  """

  largest: jax.Array

  def __add__(self, other: "Max") -> "Max":
    return Max(jnp.maximum(self.largest, other.largest))

  def value(self) -> jax.Array:
    """Returns the largest value, and 0 where nothing was counted."""
    return self.largest


Metric = Mean | Max
Metrics = Mapping[str, Metric]


def scalar(x: jax.Array | float) -> Mean:
  """Returns a Mean of the single value `x` (f32[])."""
  return Mean(jnp.asarray(x, jnp.float32), jnp.ones((), jnp.float32))


def masked_mean(x: jax.Array, mask: jax.Array) -> Mean:
  """Returns the Mean of `x` where `mask`; NaN behind the mask is harmless.

  Args:
    x: f32[…] values.
    mask: bool[…] of the same shape.
  """
  kept = jnp.where(mask, x.astype(jnp.float32), 0.0)
  return Mean(jnp.sum(kept), jnp.sum(mask.astype(jnp.float32)))


def masked_max(x: jax.Array, mask: jax.Array) -> Max:
  """Returns the Max of `x` >= 0 where `mask`; NaN behind the mask is harmless.

  Args:
    x: f32[…] values.
    mask: bool[…] of the same shape.
  """
  return Max(jnp.max(jnp.where(mask, x.astype(jnp.float32), 0.0), initial=0.0))


def add(a: Metrics, b: Metrics) -> dict[str, Metric]:
  """Returns the union of two metric dicts, adding what both have."""
  merged: dict[str, Any] = dict(a)
  for key, part in b.items():
    merged[key] = merged[key] + part if key in merged else part
  return merged


def values(metrics: Metrics) -> dict[str, jax.Array]:
  """Returns each metric divided out: `dict[str, f32[]]`."""
  return {key: mean.value() for key, mean in metrics.items()}
