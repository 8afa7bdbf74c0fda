"""What every loss asks of its arguments, checked while tracing."""

import jax.numpy as jnp
from jax import Array


def check_same_shape(**arrays: Array | None) -> None:
  """Raises ValueError unless all arrays that are given share one shape."""
  given = {name: x for name, x in arrays.items() if x is not None}
  first, *rest = given
  for name in rest:
    if given[name].shape != given[first].shape:
      raise ValueError(
        f"{name} has shape {given[name].shape}, expected "
        f"{given[first].shape}, the shape of {first}"
      )


def check_mask(name: str, mask: Array) -> None:
  """Raises ValueError unless `mask` is boolean."""
  if mask.dtype != jnp.bool_:
    raise ValueError(
      f"{name} has dtype {mask.dtype}, expected bool; use {name} != 0"
    )


def check_positive(**numbers: float | Array | None) -> None:
  """Raises ValueError for a Python number that is not > 0.

  A traced number cannot be looked at and passes.
  """
  for name, number in numbers.items():
    if isinstance(number, int | float) and not number > 0:
      raise ValueError(f"{name} is {number}, expected > 0")


def check_range(
  low: float, high: float, **numbers: float | Array | None
) -> None:
  """Raises ValueError for a Python number outside [low, high]."""
  for name, number in numbers.items():
    if isinstance(number, int | float) and not low <= number <= high:
      raise ValueError(f"{name} is {number}, expected {low} to {high}")
