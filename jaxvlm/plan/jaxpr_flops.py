"""FLOPs of a program, counted in its jaxpr.

XLA's own count is no help here: it takes the body of a loop once, and a
Pallas kernel as nothing. A jaxpr knows how long its scans are and holds every
recomputation that `jax.checkpoint` adds, so the count is what the chips will
really execute, before any sharding: divide by the chips for one of them.

Only contractions are counted (2·m·n·k of `dot_general`, and convolutions);
everything else runs on the vector unit in their shadow.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core


def count(
  function: Callable[..., Any],
  *args: Any,
  trips: int = 1,
  shares: Sequence[float] | None = None,
) -> float:
  """Returns the FLOPs of `function(*args)`.

  Args:
    function: may be jitted.
    *args: arrays or `jax.ShapeDtypeStruct`s.
    trips: how often a `while` runs, which no jaxpr tells.
    shares: how often a `cond` takes each of its branches, by their number;
      None takes the dearest always.

  Raises:
    ValueError: a Pallas kernel whose grid depends on data.
  """
  closed = jax.make_jaxpr(function)(*args)
  return count_jaxpr(closed, trips=trips, shares=shares)


def count_jaxpr(
  closed: core.ClosedJaxpr,
  *,
  trips: int = 1,
  shares: Sequence[float] | None = None,
) -> float:
  """Returns the FLOPs of a traced function; arguments as in `count`."""
  return _jaxpr(closed.jaxpr, _Rules(trips, shares))


class _Rules(NamedTuple):
  trips: int
  shares: Sequence[float] | None


def _jaxpr(jaxpr: core.Jaxpr, rules: _Rules) -> float:
  return sum(_equation(e, rules) for e in jaxpr.eqns)


def _equation(eqn: core.JaxprEqn, rules: _Rules) -> float:
  name, params = eqn.primitive.name, eqn.params
  if name == "dot_general":
    return _dot(eqn)
  if name == "conv_general_dilated":
    return _convolution(eqn)
  if name == "pallas_call":
    return _kernel(eqn, rules)
  inner = [_jaxpr(j, rules) for j in _inner(params)]
  if name == "scan":
    return params["length"] * sum(inner)
  if name == "while":
    return rules.trips * sum(inner)
  if name == "shard_map":  # what one device does
    return _devices(params) * sum(inner)
  if name == "cond":
    if rules.shares is None or len(rules.shares) != len(inner):
      return max(inner)
    return sum(s * x for s, x in zip(rules.shares, inner, strict=True))
  return sum(inner)


def _inner(params: Mapping[str, Any]) -> list[core.Jaxpr]:
  """Returns every jaxpr among an equation's parameters."""
  found = []
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if isinstance(item, core.ClosedJaxpr):
        found.append(item.jaxpr)
      elif isinstance(item, core.Jaxpr):
        found.append(item)
  return found


def _dot(eqn: core.JaxprEqn) -> float:
  """2 × the output's size × the contracted size."""
  contracted, _ = eqn.params["dimension_numbers"]
  shape = eqn.invars[0].aval.shape
  k = math.prod(shape[axis] for axis in contracted[0])
  return 2.0 * math.prod(eqn.outvars[0].aval.shape) * k


def _convolution(eqn: core.JaxprEqn) -> float:
  """2 × the output's size × the kernel's taps per output channel."""
  numbers = eqn.params["dimension_numbers"]
  kernel = eqn.invars[1].aval.shape
  out_channels = kernel[numbers.rhs_spec[0]]
  taps = math.prod(kernel) / out_channels
  return 2.0 * math.prod(eqn.outvars[0].aval.shape) * taps


def _kernel(eqn: core.JaxprEqn, rules: _Rules) -> float:
  """What a Pallas kernel does at one point of its grid, times the points.

  Points that the kernel finds empty at run time (tiles that a mask hides)
  count as well: an upper bound.
  """
  grid = eqn.params["grid_mapping"].grid
  if not all(isinstance(side, int) for side in grid):
    raise ValueError(
      f"Pallas kernel {eqn.params.get('name_and_src_info')} has the grid"
      f" {grid}, expected numbers: its FLOPs depend on data"
    )
  body = eqn.params["jaxpr"]
  # Inside a kernel, a branch is taken or skipped by the tile.
  return math.prod(grid) * _jaxpr(body, rules._replace(shares=None))


def _devices(params: Mapping[str, Any]) -> int:
  """Returns how many devices run the body of a `shard_map`."""
  shape = params["mesh"].shape
  return math.prod(shape[name] for name in params["newly_manual_axes"])
