"""Rotary positions: at which speeds the pairs of a head turn."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Linear:
  """Positions lie `factor` times as close: ω' = ω / factor.

  arXiv:2306.15595, Section 3.2.
  """

  factor: float

  def __call__(self, turns: Array) -> Array:
    return turns / self.factor


@dataclasses.dataclass(frozen=True)
class Llama3:
  """Slow pairs turn slower still, fast ones as before, those between mix.

    r = original_max_position_embeddings · ω / 2π,  turns in the old context
    s = clip((r − low) / (high − low), 0, 1),  ω' = (1 − s)·ω / factor + s·ω

  Of Llama 3.1's reference code (`apply_scaling`); transformers calls it
  `llama3`.
  """

  factor: float
  low_freq_factor: float
  high_freq_factor: float
  original_max_position_embeddings: float

  def __call__(self, turns: Array) -> Array:
    rounds = self.original_max_position_embeddings * turns / (2 * math.pi)
    low, high = self.low_freq_factor, self.high_freq_factor
    kept = jnp.clip((rounds - low) / (high - low), 0, 1)
    return (1 - kept) * turns / self.factor + kept * turns


# rope_type in config.json -> its rule, whose fields are its settings there
SCALINGS = {"linear": Linear, "llama3": Llama3}


@dataclasses.dataclass(frozen=True)
class Rope:
  """The rotary settings of a decoder.

  Attributes:
    theta: base of the speeds.
    scaling: rule by which they were changed for longer texts.
  """

  theta: float
  scaling: Linear | Llama3 | None = None

  def __post_init__(self):
    if isinstance(self.scaling, Llama3):
      low, high = self.scaling.low_freq_factor, self.scaling.high_freq_factor
      if not low < high:
        raise ValueError(
          f"rotary scaling has low_freq_factor {low} and high_freq_factor"
          f" {high}, expected the first below the second"
        )


def settings(*kinds: str) -> dict[str, tuple[str, ...]]:
  """Returns "default" and the given kinds with the names of their settings."""
  return {"default": ()} | {
    kind: tuple(f.name for f in dataclasses.fields(SCALINGS[kind]))
    for kind in kinds
  }


def read(found: Mapping[str, Any], where: str) -> Rope:
  """Reads `rope_theta`, `rope_type` (or `type`) and the settings of its kind.

  Args:
    found: these fields, of kinds that are known.
    where: what to call them in a message.

  Raises:
    ValueError: a setting that is absent or no positive number.
  """

  def positive(name: str) -> float:
    value = found.get(name)
    if type(value) not in (int, float) or not value > 0:
      raise ValueError(
        f"{where} has {name} {value!r} of the rotary positions, expected a"
        " positive number; copy the config.json that belongs to the weights"
      )
    return value

  kind = found.get("rope_type", found.get("type", "default"))
  rule = SCALINGS.get(kind)
  scaling = rule and rule(*map(positive, settings(kind)[kind]))
  return Rope(positive("rope_theta"), scaling)


def write(rope: Rope) -> dict[str, Any]:
  """Returns the fields of config.json, as published files have them."""
  if rope.scaling is None:
    return {"rope_theta": rope.theta}
  (kind,) = (k for k, rule in SCALINGS.items() if type(rope.scaling) is rule)
  scaling = {"type": kind, "rope_type": kind, **vars(rope.scaling)}
  return {"rope_theta": rope.theta, "rope_scaling": scaling}


def frequencies(rope: Rope, head_dim: int) -> Array:
  """Returns the turns f32[d/2] of one position, in radians: θ^(−2i / d).

  arXiv:2104.09864, Section 3.2.2; scaled by the rule, if there is one.
  """
  d = head_dim
  turns = rope.theta ** (-jnp.arange(0, d, 2, dtype=jnp.float32) / d)
  return turns if rope.scaling is None else rope.scaling(turns)


def mrope_angles(positions: Array, turns: Array) -> Array:
  """Returns what every pair would turn on every axis f32[3, …, d/2].

  Args:
    positions: i32[3, …] time, height and width; or i32[1, …] of text that was
      laid out for a model that reads nothing else.
    turns: f32[d/2] of one position (`frequencies`).
  """
  if len(positions) == 1:
    positions = jnp.broadcast_to(positions, (3, *positions.shape[1:]))
  return positions[..., None].astype(jnp.float32) * turns


def by_axis(angles: Array, axes: Array) -> Array:
  """Returns M-RoPE angles f32[…, d/2]: pair i turns with axis `axes[i]`.

  arXiv:2409.12191, Section 2.1.

  Args:
    angles: of `mrope_angles`.
    axes: i32[d/2] 0 (time), 1 (height) or 2 (width).
  """
  return jnp.where(axes == 0, angles[0], jnp.where(axes == 1, *angles[1:]))
