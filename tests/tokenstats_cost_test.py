"""What token statistics must not cost: products, buffers, gathers, memory."""

import functools
import math
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks import tokenstats as benchmark
from jaxvlm.tokenstats import _live_first, token_stats
from tests import compiling


@pytest.mark.parametrize("live", [0, 1, 7, 8, 9, 30])
def test_empty_chunks_are_not_computed(live):
  keep = np.zeros(30, bool)
  keep[np.random.default_rng(live).permutation(30)[:live]] = True
  order, rounds = _live_first(jnp.asarray(keep), 4)
  size = order.shape[1]
  assert rounds == -(-live // size)
  assert sorted(np.asarray(order).reshape(-1)[:live]) == list(
    np.nonzero(keep)[0]
  )


def compiled(function, chunk=16, tokens=64, width=16, vocab=96):
  """Optimized HLO of `function(stats, …)` with a teacher of width 24."""
  struct = jax.ShapeDtypeStruct
  arguments = (
    struct((tokens, width), jnp.float32),
    struct((width, vocab), jnp.float32),
    struct((tokens,), jnp.int32),
    struct((tokens,), jnp.bool_),
    struct((tokens, 24), jnp.float32),
    struct((24, vocab), jnp.float32),
  )

  def stats(hidden, head, targets, mask, teacher_hidden, teacher_head):
    return token_stats(
      hidden,
      head,
      targets,
      mask,
      teacher_hidden=teacher_hidden,
      teacher_head=teacher_head,
      jsd_beta=0.5,
      top_k=4,
      total_variation=True,
      chunk=chunk,
    )

  return jax.jit(function(stats)).lower(*arguments).compile().as_text()


def products(text):
  return len(re.findall(r" (?:dot|custom-call)\(", text))


def test_what_nobody_reads_is_not_computed():
  """Counted in matrix products: student, teacher, and one per gradient."""
  logprobs = lambda stats: lambda *a: stats(*a).logprobs  # noqa: E731
  total = lambda stats: lambda *a: stats(*a).logprobs.sum()  # noqa: E731
  kl = lambda stats: lambda *a: stats(*a).reverse_kl.sum()  # noqa: E731
  assert products(compiled(logprobs)) == 1
  assert " exponential(" in compiled(logprobs)
  assert products(compiled(lambda stats: stats)) == 2
  frozen_head = compiled(lambda stats: jax.grad(total(stats)))
  assert products(frozen_head) == 3
  assert products(compiled(lambda s: jax.grad(total(s), (0, 1)))) == 4
  assert products(compiled(lambda s: jax.grad(kl(s), (0, 1)))) == 6


def test_no_buffer_has_tokens_and_vocabulary_beyond_a_chunk():
  def loss(stats):
    def total(*arguments):
      return sum(jnp.sum(field) for field in stats(*arguments))

    return jax.value_and_grad(total, argnums=(0, 1))

  tokens, vocab, chunk = 640, 96, 16
  text = compiled(loss, chunk, tokens, vocab=vocab)
  sizes = {
    int(np.prod([int(n) for n in dims.split(",")]))
    for dims in re.findall(r"\w\[([\d,]+)\]", text)
    if str(vocab) in dims.split(",")
  }
  # Per-vocabulary buffers other than a chunk are the heads.
  assert max(sizes) == max(chunk, 24) * vocab
  whole = compiled(loss, tokens, tokens, vocab=vocab)
  assert f"[{tokens},{vocab}]" in whole  # the search would have found it


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from jaxvlm.tokenstats import token_stats
auto = (jax.sharding.AxisType.Auto,) * 3
mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=auto)
rng = np.random.default_rng(0)
B, T, D, V, E = 8, 24, 16, 1024, 32
tokens = P(("data", "fsdp"))
def loss(head, hidden, teacher_head, teacher_hidden, targets, mask):
  s = token_stats(
    hidden, head, targets, mask, teacher_hidden=teacher_hidden,
    teacher_head=teacher_head, chunk=4, vocab_size=V - 7,
  )
  return jnp.sum(s.reverse_kl - s.logprobs - 0.1 * s.entropies)
bf16 = lambda *s: jnp.asarray(rng.normal(size=s) / 4, jnp.bfloat16)
arrays = (
  bf16(D, V).astype(jnp.float32), bf16(B, T, D), bf16(E, V), bf16(B, T, E),
  jnp.asarray(rng.integers(0, V - 7, (B, T))),
  jnp.asarray(rng.random((B, T)) < 0.7),
)
step = jax.value_and_grad(loss, argnums=(0, 1))
expected = jax.jit(step)(*arrays)
for spec in (P(None, "tensor"), P("fsdp", None), P("fsdp", "tensor")):
  specs = (spec, tokens, spec, tokens, tokens, tokens)
  shardings = tuple(NamedSharding(mesh, s) for s in specs)
  with jax.set_mesh(mesh):
    placed = jax.device_put(arrays, shardings)
    out = (NamedSharding(mesh, P()), (shardings[0], shardings[1]))
    run = jax.jit(step, out_shardings=out).lower(*placed).compile()
    found = run(*placed)
  # Two bf16 roundings stand between the two orders of summation.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      np.asarray(a, np.float32), np.asarray(b, np.float32),
      rtol=2e-2, atol=4e-2,
    ), found, expected)
print("sharded ok")
"""


def test_sharded_heads_give_the_same_numbers():
  """Eight fake devices in a fresh process: head over tensor, fsdp, both."""
  result = subprocess.run(
    [sys.executable, "-c", SHARDED],
    env=compiling.environment(JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="8"),
    capture_output=True,
    text=True,
  )
  assert result.stdout.strip() == "sharded ok", result.stderr[-3000:]


def tpu_mesh():
  """Eight v5e chips that exist on paper only."""
  pytest.importorskip(
    "libtpu", reason="compiling for a TPU needs the libtpu wheel"
  )
  topology = topologies.get_topology_desc(
    platform="tpu", topology_name="v5e:2x4"
  )
  names = ("data", "fsdp", "tensor")
  return topologies.make_mesh(topology, (2, 2, 2), names)


@pytest.mark.parametrize(
  "spec",
  [
    P("fsdp", "tensor"),
    *(
      pytest.param(spec, marks=pytest.mark.slow)
      for spec in (P(None, "tensor"), P("fsdp"))
    ),
  ],
)
def test_sharded_heads_gather_no_logits_and_no_float32_head(spec):
  """Of float32, a chip may see one vocabulary's worth of a chunk, no more."""
  mesh, rows = tpu_mesh(), P(("data", "fsdp"))
  batch, tokens, width, vocab = 8, 512, 256, 8192

  def place(shape, dtype, spec):
    where = NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=where)

  def loss(head, hidden, targets, mask):
    stats = token_stats(hidden, head, targets, mask, chunk=64)
    return jnp.sum(-stats.logprobs - 0.1 * stats.entropies)

  step = jax.value_and_grad(loss, argnums=(0, 1))
  where = tuple(NamedSharding(mesh, s) for s in (P(), spec, rows))
  with jax.set_mesh(mesh):
    text = (
      jax.jit(step, out_shardings=(where[0], where[1:]))
      .lower(
        place((width, vocab), jnp.float32, spec),
        place((batch, tokens, width), jnp.bfloat16, rows),
        place((batch, tokens), jnp.int32, rows),
        place((batch, tokens), jnp.bool_, rows),
      )
      .compile()
      .as_text()
    )
  gathered = re.findall(r"(\w+)\[([\d,]*)\]\S* all-gather(?:-start)?\(", text)
  for kind, dims in gathered:
    size = math.prod(int(n) for n in dims.split(",") if n)
    assert size <= width * vocab, (kind, dims)
    # Half: the gradient, where `spec` asks for copies of it over one axis.
    assert kind != "f32" or size <= width * vocab / 2, (kind, dims)
  logits = rf"f32\[\d*,?{batch * tokens // 4},{vocab}\]"
  assert not re.search(logits, text)
  if spec[0] == "fsdp":
    assert any(kind == "bf16" for kind, _ in gathered)


@pytest.mark.slow
def test_memory_on_a_tpu_is_a_tenth():
  """The bar of benchmarks/tokenstats.py at a smaller size.

  Slow, for four programs cost 73 s of CPU; the two tests above say of compiled
  text that no buffer of tokens × words is in it, and the fast suite runs them.
  """
  pytest.importorskip(
    "libtpu", reason="compiling for a TPU needs the libtpu wheel"
  )
  # Everything but the width scaled from 8,192 tokens × 151,936 words.
  tokens, width, vocab = 2048, 1024, 75968
  measure = functools.partial(
    benchmark.tpu_temporaries,
    tokens=tokens,
    width=width,
    vocab=vocab,
    head_dtype=jnp.float32,
  )
  plain = measure(benchmark.plain_stats)
  ours = measure(benchmark.chunked_stats)
  with_teacher = measure(benchmark.chunked_stats, teacher_width=2048)
  bf16_head = benchmark.tpu_temporaries(
    benchmark.chunked_stats, tokens, width, vocab, jnp.bfloat16
  )
  logits = tokens * vocab * 4 / benchmark.GIB
  head = width * vocab * 4 / benchmark.GIB
  assert plain > logits
  # A bf16 copy of the head and one chunk of logits; the sum is the output.
  assert ours < head / 2 + logits / 6
  assert with_teacher < ours + logits / 6
  # The float32 sum is not the output any more.
  assert bf16_head < head + logits / 6
