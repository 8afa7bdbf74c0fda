"""Does a policy know how often it is right: bins of confidence, and the ECE."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

BINS = 15


class Bins(NamedTuple):
  """A reliability diagram that has not been divided yet; parts add up.

  Bin k of B holds confidences in (k/B, (k+1)/B].

  Attributes:
    count: f32[B] predictions.
    confidence: f32[B] sum of their confidences.
    correct: f32[B] how many of them were right.
  """

  count: jax.Array
  confidence: jax.Array
  correct: jax.Array

  def __add__(self, other: "Bins") -> "Bins":
    return Bins(*(a + b for a, b in zip(self, other, strict=True)))

  @property
  def error(self) -> jax.Array:
    """f32[] the expected calibration error; 0 where nothing was counted.

    ECE = Σ_k n_k/n · |accuracy_k − confidence_k|

    Guo et al., arXiv:1706.04599, Eq. 3, with their 15 equal bins.
    """
    gaps = jnp.abs(self.correct - self.confidence)
    return jnp.sum(gaps) / jnp.maximum(jnp.sum(self.count), 1.0)


def reliability(
  confidences: jax.Array,
  correct: jax.Array,
  mask: jax.Array,
  *,
  bins: int = BINS,
) -> Bins:
  """Returns predictions counted by their confidence.

  Args:
    confidences: f32[…] in [0, 1], such as the probability of the likeliest
      token.
    correct: bool[…] whether that prediction was right.
    mask: bool[…] predictions that count; NaN behind it is harmless.
    bins: B, of equal width.

  Raises:
    ValueError: shapes differ, or no bin.
  """
  for name, x in {"correct": correct, "mask": mask}.items():
    if x.shape != confidences.shape:
      raise ValueError(
        f"{name}: got shape {x.shape}, expected {confidences.shape} as"
        " confidences"
      )
  if bins < 1:
    raise ValueError(f"bins is {bins}, expected at least 1")
  kept = jnp.where(mask, confidences, 0.0)
  place = jnp.ceil(kept * bins).astype(jnp.int32) - 1
  place = jnp.where(mask, jnp.clip(place, 0, bins - 1), bins)

  def total(x):
    empty = jnp.zeros(bins, jnp.float32)
    return empty.at[place].add(x.astype(jnp.float32), mode="drop")

  return Bins(total(jnp.ones_like(kept)), total(kept), total(correct))
