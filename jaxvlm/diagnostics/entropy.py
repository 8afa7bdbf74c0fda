"""Entropy of a policy as one number, as a curve, and as an estimate.

Entropy is the full-vocabulary entropy of the next token in nats, as
`token_stats` and the sampler give it. The one-sample estimate −log p of the
sampled token has the same mean on the policy's own samples, another variance,
and a name of its own here.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxvlm import metrics


class Profile(NamedTuple):
  """Mean entropy by position in the completion.

  Attributes:
    mean: f32[T]; 0 where no completion reaches.
    count: f32[T] completions that reach this position.
  """

  mean: jax.Array
  count: jax.Array


def mean_entropy(entropies: jax.Array, mask: jax.Array) -> metrics.Mean:
  """Returns the token mean of H_t = −Σ_v p_t(v) log p_t(v), in nats.

  Args:
    entropies: f32[…, T] per token.
    mask: bool[…, T] tokens that count; NaN behind it is harmless.

  Raises:
    ValueError: shapes differ.
  """
  _require_same_shape(entropies, mask, "entropies")
  return metrics.masked_mean(entropies, mask)


def entropy_profile(entropies: jax.Array, mask: jax.Array) -> Profile:
  """Returns the mean entropy at every position, in nats.

  Args:
    entropies: f32[…, T] per token.
    mask: bool[…, T] tokens that count; NaN behind it is harmless.

  Raises:
    ValueError: shapes differ.
  """
  _require_same_shape(entropies, mask, "entropies")
  axes = tuple(range(mask.ndim - 1))
  total = jnp.sum(jnp.where(mask, entropies, 0.0), axis=axes)
  count = jnp.sum(mask.astype(jnp.float32), axis=axes)
  return Profile(total / jnp.maximum(count, 1.0), count)


def sampled_nll(logprobs: jax.Array, mask: jax.Array) -> metrics.Mean:
  """Returns the token mean of −log p(sampled token), in nats.

  E_{v~p}[−log p(v)] = H(p): unbiased on the policy's own untruncated samples,
  and no entropy on anything else.

  Args:
    logprobs: f32[…, T] of the sampled tokens.
    mask: bool[…, T] tokens that count; NaN behind it is harmless.

  Raises:
    ValueError: shapes differ.
  """
  _require_same_shape(logprobs, mask, "logprobs")
  return metrics.masked_mean(-logprobs, mask)


def _require_same_shape(x: jax.Array, mask: jax.Array, name: str) -> None:
  if x.shape != mask.shape:
    raise ValueError(
      f"mask: got shape {mask.shape}, expected {x.shape} as {name}"
    )
