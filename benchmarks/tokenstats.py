"""Memory and time of `jaxvlm.tokenstats` beside the plain computation.

  JAX_PLATFORMS=cpu python -m benchmarks.tokenstats memory    for TPU v5p
  JAX_PLATFORMS=cpu python -m benchmarks.tokenstats time
  python -m benchmarks.tokenstats speed       TFLOP/s, for an accelerator

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


def checkpointed_stats(hidden, head, targets, mask, teacher=None, chunk=256):
  """The plain computation over chunks of tokens, each under checkpoint.

  The alternative to the own backward pass of `token_stats`: fewer lines, and
  the logits are computed once more.
  """

  @jax.checkpoint
  def part(hidden, targets, mask, teacher_hidden):
    pair = None if teacher is None else (teacher_hidden, teacher[1])
    return plain_stats(hidden, head, targets, mask, pair)

  cut = lambda x: x.reshape(-1, chunk, *x.shape[1:])  # noqa: E731
  rows = (hidden, targets, mask, None if teacher is None else teacher[0])
  _, stats = jax.lax.scan(
    lambda _, row: (None, part(*row)), None, jax.tree.map(cut, rows)
  )
  return jax.tree.map(lambda x: x.reshape(-1), stats)


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


def memory() -> None:
  """The issue's table: 8,192 tokens × 151,936 words, width 2,048, v5p."""
  size = {"tokens": 8192, "width": 2048, "vocab": 151936}
  print("GiB of temporaries, value and gradient, one v5p chip, ahead of time")
  print(
    f"{'head':>9} {'objective':>22} {'plain':>7} {'scan':>7} {'ours':>7} "
    f"{'ratio':>7}"
  )
  for head_dtype in (jnp.float32, jnp.bfloat16):
    for teacher_width in (None, 8192):
      plain, scan, ours = (
        tpu_temporaries(
          stats, **size, head_dtype=head_dtype, teacher_width=teacher_width
        )
        for stats in (plain_stats, checkpointed_stats, chunked_stats)
      )
      kind = "reverse KL" if teacher_width else "cross-entropy"
      print(
        f"{jnp.dtype(head_dtype).name:>9} {kind + ' + entropy':>22} "
        f"{plain:7.3f} {scan:7.3f} {ours:7.3f} {ours / plain:7.3f}",
        flush=True,
      )


def random_arguments(*arguments, seed=0):
  """Arrays for `shapes(*arguments)`; logits of standard deviation 1."""

  def fill(key, x):
    if x.dtype == jnp.bool_:
      return jnp.ones(x.shape, bool)
    if x.dtype == jnp.int32:
      return jax.random.randint(key, x.shape, 0, arguments[2])
    scale = x.shape[0] ** -0.5 if x.shape[-1] == arguments[2] else 1.0
    return (scale * jax.random.normal(key, x.shape)).astype(x.dtype)

  leaves, tree = jax.tree.flatten(shapes(*arguments))
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  return jax.tree.unflatten(tree, map(fill, keys, leaves))


def interleave(functions, arguments, repeats):
  """({name: median seconds}, {name: result}), measured in turns."""
  results = {
    name: jax.block_until_ready(function(*arguments))
    for name, function in functions.items()
  }
  seconds = {name: [] for name in functions}
  for _ in range(repeats):
    for name, function in functions.items():
      start = time.perf_counter()
      jax.block_until_ready(function(*arguments))
      seconds[name].append(time.perf_counter() - start)
  return {name: np.median(x) for name, x in seconds.items()}, results


def disagreement(first, second) -> float:
  """Largest difference of any array, relative to the largest element."""
  pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
  return max(float(jnp.abs(a - b).max() / jnp.abs(a).max()) for a, b in pairs)


def cpu(repeats: int) -> None:
  """Time beside the plain computation where both fit, float32."""
  print(f"milliseconds, median of {repeats}, in turns; ratio = ours / plain")
  print(
    f"{'tokens':>7} {'width':>6} {'vocab':>7} {'teacher':>8} {'plain':>8} "
    f"{'scan':>8} {'ours':>8} {'ratio':>6} {'difference':>11}"
  )
  for tokens, width, vocab, teacher_width in (
    (10240, 64, 512, None),
    (10240, 64, 512, 128),
    (2048, 256, 8192, None),
    (2048, 256, 8192, 512),
    (2048, 512, 32768, None),
    (1024, 512, 32768, 1024),
    (512, 1024, 151936, None),
  ):
    size = (tokens, width, vocab, jnp.float32, teacher_width, jnp.float32)
    functions = {
      "plain": jax.jit(gradient(plain_stats)),
      "scan": jax.jit(gradient(checkpointed_stats)),
      "ours": jax.jit(gradient(chunked_stats)),
    }
    seconds, results = interleave(functions, random_arguments(*size), repeats)
    plain, scan, ours = (1e3 * seconds[name] for name in functions)
    print(
      f"{tokens:7} {width:6} {vocab:7} {teacher_width or '-':>8} "
      f"{plain:8.1f} {scan:8.1f} {ours:8.1f} {ours / plain:6.2f} "
      f"{disagreement(results['plain'], results['ours']):11.1e}",
      flush=True,
    )


def speed(repeats: int) -> None:
  """TFLOP/s of cross-entropy + entropy in bf16, counted as 8·T·D·V."""
  tokens, width, vocab = 16384, 3584, 152064
  size = (tokens, width, vocab, jnp.bfloat16, None, jnp.bfloat16)
  arguments = random_arguments(*size)
  print(f"{jax.devices()[0].device_kind}: {tokens} × {width} × {vocab}, bf16")
  for chunk in (None, 512, 1024, 2048, 4096):
    function = jax.jit(gradient(functools.partial(chunked_stats, chunk=chunk)))
    seconds, _ = interleave({"ours": function}, arguments, repeats)
    rate = 8 * tokens * width * vocab / seconds["ours"] / 1e12
    print(f"chunk {chunk or 'default':>8}: {rate:6.1f} TFLOP/s", flush=True)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "what", nargs="?", default="time", choices=("memory", "time", "speed")
  )
  parser.add_argument("--repeats", type=int, default=10)
  options = parser.parse_args()
  if options.what == "memory":
    memory()
  elif options.what == "time":
    cpu(options.repeats)
  else:
    speed(options.repeats)


if __name__ == "__main__":
  main()
