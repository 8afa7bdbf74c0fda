"""Memory and time of `jaxvlm.tokenstats` beside the plain computation.

  python -m benchmarks.tokenstats memory    compiled ahead of time for TPU v5p
  python -m benchmarks.tokenstats time      on this machine's CPU
  python -m benchmarks.tokenstats speed     TFLOP/s on the default accelerator

`memory` needs the libtpu wheel and no TPU. Every line is value and gradient
with respect to hidden states and head. The plain computation is what one
writes first: logits in float32, log_softmax, automatic differentiation.
"""

import argparse
import functools
import os
import time

# Nothing runs on a TPU here: no metadata server, no lock on the device.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

from jaxvlm.tokenstats import token_stats

GIB = 2**30


def plain_stats(hidden, head, targets, mask, teacher=None):
  """(logprobs, entropies, reverse_kl or None) with [tokens, V] in memory."""
  product = functools.partial(
    jnp.einsum, "...d,dv->...v", preferred_element_type=jnp.float32
  )
  log_p = jax.nn.log_softmax(product(hidden, head.astype(hidden.dtype)))
  p = jnp.exp(log_p)
  logprobs = jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0]
  entropies = -jnp.sum(p * log_p, -1)
  keep = lambda x: jnp.where(mask, x, 0.0)  # noqa: E731
  if teacher is None:
    return keep(logprobs), keep(entropies), None
  log_q = jax.nn.log_softmax(product(*teacher))
  return (
    keep(logprobs),
    keep(entropies),
    keep(jnp.sum(p * (log_p - jax.lax.stop_gradient(log_q)), -1)),
  )


def chunked_stats(hidden, head, targets, mask, teacher=None, chunk=None):
  """The same three of `token_stats`."""
  teacher_hidden, teacher_head = teacher or (None, None)
  stats = token_stats(
    hidden,
    head,
    targets,
    mask,
    teacher_hidden=teacher_hidden,
    teacher_head=teacher_head,
    chunk=chunk,
  )
  return stats.logprobs, stats.entropies, stats.reverse_kl


def objective(stats, hidden, head, targets, mask, teacher=None):
  """Cross-entropy − entropy/100, or KL(p‖q) − entropy/100: a float32 sum."""
  logprobs, entropies, reverse_kl = stats(hidden, head, targets, mask, teacher)
  main = -logprobs if teacher is None else reverse_kl
  return jnp.sum(main - 0.01 * entropies)


def shapes(tokens, width, vocab, head_dtype, teacher_width, dtype):
  """The arguments of `objective` as ShapeDtypeStructs."""
  struct = jax.ShapeDtypeStruct
  arguments = [
    struct((tokens, width), dtype),
    struct((width, vocab), head_dtype),
    struct((tokens,), jnp.int32),
    struct((tokens,), jnp.bool_),
  ]
  if teacher_width:
    arguments.append(
      (
        struct((tokens, teacher_width), dtype),
        struct((teacher_width, vocab), dtype),
      )
    )
  return arguments


def gradient(stats):
  return jax.value_and_grad(functools.partial(objective, stats), argnums=(0, 1))


def tpu_temporaries(
  stats, tokens, width, vocab, head_dtype, teacher_width=None
) -> float:
  """GiB of temporary memory on one v5p chip, compiled, not run."""
  topology = topologies.get_topology_desc(
    platform="tpu", topology_name="v5p:2x2x1"
  )
  where = jax.sharding.SingleDeviceSharding(topology.devices[0])
  arguments = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    shapes(tokens, width, vocab, head_dtype, teacher_width, jnp.bfloat16),
  )
  compiled = jax.jit(gradient(stats)).lower(*arguments).compile()
  return compiled.memory_analysis().temp_size_in_bytes / GIB
