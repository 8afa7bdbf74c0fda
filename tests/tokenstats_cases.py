"""Random inputs of the token statistics, and a gradient through all of them."""

import functools

import jax
import numpy as np

from jaxvlm.tokenstats import TokenStats, token_stats
from tests.reference import tokenstats as oracle

# Nothing divides the vocabulary, and the two heads are padded differently.
VOCAB, PADDED, TEACHER_PADDED = 53, 60, 57
OPTIONS = {
  "vocab_size": VOCAB,
  "jsd_beta": 0.3,
  "top_k": 5,
  "total_variation": True,
}


def draw(seed, shape=(2, 3, 7), width=16, teacher_width=9, scale=1.0):
  """Inputs as float32 NumPy arrays; logits of standard deviation `scale`."""
  rng = np.random.default_rng(seed)

  def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)

  x = {
    "hidden": scale * normal(*shape, width),
    "head": normal(width, PADDED) / np.sqrt(np.float32(width)),
    "targets": rng.integers(0, VOCAB, shape).astype(np.int32),
    "mask": rng.random(shape) < 0.6,
    "teacher_hidden": scale * normal(*shape, teacher_width),
    "teacher_head": normal(teacher_width, TEACHER_PADDED)
    / np.sqrt(np.float32(teacher_width)),
  }
  x["mask"].flat[0] = True
  return x


def coefficients(seed, shape):
  """A random cotangent for every statistic."""
  rng = np.random.default_rng(seed)
  return {
    name: rng.normal(size=shape).astype(np.float32) for name in oracle.FIELDS
  }


def contract(stats, weights):
  stats = stats._asdict() if isinstance(stats, TokenStats) else stats
  return sum((weights[name] * stats[name]).sum() for name in weights)


def gradient(x, weights, chunk=None, temperature=1.0, **options):
  """d contract(stats, weights) / d (hidden, head, temperature)."""
  rest = {k: v for k, v in x.items() if k not in ("hidden", "head")}

  def loss(hidden, head, temperature):
    stats = token_stats(
      hidden,
      head,
      **rest,
      temperature=temperature,
      chunk=chunk,
      **(OPTIONS | options),
    )
    return contract(stats, weights)

  return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(
    x["hidden"], x["head"], temperature
  )


@functools.cache
def compiled_stats(**options):
  """Returns `token_stats` with these options, compiled once a shape."""
  return jax.jit(functools.partial(token_stats, **options))
