"""Temperature, top-k, top-p, min-p: what may be drawn, and how likely it is."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from jaxvlm.tokenstats import check_temperature


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How the next token is drawn.

  Attributes:
    temperature: divides the logits; 0 means argmax, with statistics at 1.
    top_k: keep the k most likely tokens (ties at the k-th all stay); 0 keeps
      all.
    top_p: keep the smallest set of most likely tokens with at least this
      mass, in (0, 1].
    min_p: keep tokens at least this fraction as likely as the best, [0, 1).
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0

  def __post_init__(self):
    def need(ok: bool, name: str, expected: str):
      if not ok:
        raise ValueError(
          f"sampling: {name} is {getattr(self, name)}, expected {expected}"
        )

    if self.temperature != 0:  # argmax
      try:
        check_temperature(self.temperature)
      except ValueError as error:
        raise ValueError(
          f"sampling: temperature is {self.temperature}, expected 0 (argmax) or"
          " more, no denormal or infinite number"
        ) from error
    need(self.top_k >= 0, "top_k", "0 (all tokens) or more")
    need(0 < self.top_p <= 1, "top_p", "a mass in (0, 1]; 1 keeps all tokens")
    need(0 <= self.min_p < 1, "min_p", "a fraction in [0, 1); 0 keeps all")

  @property
  def truncates(self) -> bool:
    """Whether any rule excludes tokens."""
    return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


def truncate(logits: Array, sampling: Sampling) -> Array:
  """Returns the logits with −inf at tokens that may not be drawn.

  The three rules apply to the same distribution; what any of them excludes is
  excluded. The most likely token always stays.

  Args:
    logits: f32[..., V], already divided by the temperature.
    sampling: the rules.
  """
  if not sampling.truncates:
    return logits
  keep = jnp.ones(logits.shape, bool)
  if 0 < sampling.top_k < logits.shape[-1]:
    kth = jax.lax.top_k(logits, sampling.top_k)[0][..., -1:]
    keep &= _reaches(logits, kth)
  if sampling.top_p < 1:
    order = jnp.argsort(-logits, axis=-1)
    ranked = jnp.take_along_axis(jax.nn.softmax(logits, -1), order, axis=-1)
    before = jnp.cumsum(ranked, axis=-1) - ranked
    inside = before < sampling.top_p  # the token that crosses p stays
    keep &= jnp.take_along_axis(inside, jnp.argsort(order, axis=-1), axis=-1)
  if sampling.min_p > 0:
    best = jnp.max(logits, axis=-1, keepdims=True)
    keep &= _reaches(logits, best + jnp.log(sampling.min_p))
  return jnp.where(keep, logits, -jnp.inf)


def _reaches(logits: Array, bound: Array) -> Array:
  """Returns whether a logit is at its bound, up to rounding, or above.

  A compiler may compute logits twice, in two fusions that round apart: the k-th
  largest would fall out by comparison with itself.
  """
  return logits >= bound - 2.0**-19 * jnp.maximum(jnp.abs(bound), 1)
