"""Token statistics against float64, and what they must not cost."""

import functools
import math
import re
import subprocess
import sys

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.experimental import topologies
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks import tokenstats as benchmark
from jaxvlm.tokenstats import TokenStats, _live_first, token_stats
from tests import compiling
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


@pytest.mark.parametrize("chunk", [None, 5, 8, 42])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_values_are_the_oracles(chunk, scale):
  x = draw(1, scale=scale)
  stats = compiled_stats(temperature=0.7, chunk=chunk, **OPTIONS)(**x)
  expected = oracle.token_stats(**x, temperature=0.7, **OPTIONS)
  # Logits are sums in float32: their error is relative to their size.
  size = max(1.0, scale)
  for name in oracle.FIELDS:
    np.testing.assert_allclose(
      getattr(stats, name),
      expected[name],
      rtol=1e-6,
      atol=3e-6 * size,
      err_msg=name,
    )


@pytest.mark.parametrize("beta", [0, 0.5, 1])
def test_the_ends_of_the_divergence_are_the_two_kls(beta):
  x = draw(2)
  stats = compiled_stats(vocab_size=VOCAB, jsd_beta=beta)(**x)
  expected = oracle.token_stats(**x, vocab_size=VOCAB, jsd_beta=beta)
  np.testing.assert_allclose(stats.jsd, expected["jsd"], rtol=1e-5, atol=1e-6)
  if beta != 0.5:
    kl = stats.reverse_kl if beta else stats.forward_kl
    np.testing.assert_array_equal(stats.jsd, kl)
    weights = coefficients(0, x["mask"].shape)
    name = "reverse_kl" if beta else "forward_kl"
    for a, b in zip(
      gradient(x, {"jsd": weights[name]}, jsd_beta=beta, top_k=None),
      gradient(x, {name: weights[name]}, jsd_beta=beta, top_k=None),
      strict=True,
    ):
      np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", oracle.FIELDS)
def test_gradient_is_the_oracles_finite_difference(name):
  """In chunks, which change nothing (see the properties below)."""
  x = draw(3, shape=(2, 4), width=4, teacher_width=3)
  weights = {name: coefficients(3, x["mask"].shape)[name]}
  actual = gradient(x, weights, chunk=4, temperature=1.3)
  double = {
    k: v.astype(float) if v.dtype == np.float32 else v for k, v in x.items()
  }

  def loss(**moved):
    stats = oracle.token_stats(**(double | moved), temperature=1.3, **OPTIONS)
    return contract(stats, weights)

  step = 1e-5
  for key, found in zip(("hidden", "head"), actual, strict=False):
    expected = np.zeros(double[key].shape)
    for i in list(np.ndindex(expected.shape))[:: 1 if key == "hidden" else 3]:
      up, down = double[key].copy(), double[key].copy()
      up[i] += step
      down[i] -= step
      expected[i] = (loss(**{key: up}) - loss(**{key: down})) / (2 * step)
      if name.startswith("teacher"):
        expected[i] = 0.0
      np.testing.assert_allclose(found[i], expected[i], rtol=1e-4, atol=2e-6)
  if not name.startswith("teacher"):
    # The teacher is constant, in its temperature, too: only p moves.
    up, down = (double["hidden"] * 1.3 / (1.3 + d) for d in (step, -step))
    slope = (loss(hidden=up) - loss(hidden=down)) / (2 * step)
    np.testing.assert_allclose(actual[2], slope, rtol=1e-4, atol=1e-5)


def test_gradient_is_torchs():
  torch = pytest.importorskip(
    "torch", reason="torch is the reference for gradients: pip install .[test]"
  )
  x = draw(4)
  weights = coefficients(4, x["mask"].shape)
  t = {
    k: torch.tensor(v).double() if v.dtype == np.float32 else torch.tensor(v)
    for k, v in x.items()
  }
  t["hidden"].requires_grad_()
  t["head"].requires_grad_()
  z = t["hidden"] @ t["head"][:, :VOCAB] / 0.7
  log_p = z.log_softmax(-1)
  log_q = (
    t["teacher_hidden"] @ t["teacher_head"][:, :VOCAB] / 0.7
  ).log_softmax(-1)
  p, q = log_p.exp(), log_q.exp()
  log_m = (0.3 * q + 0.7 * p).log()
  inside = log_q >= log_q.topk(5).values[..., -1:]
  p_tail, q_tail = (p * ~inside).sum(-1), (q * ~inside).sum(-1)
  stats = {
    "logprobs": log_p.gather(-1, t["targets"].long()[..., None])[..., 0],
    "entropies": -(p * log_p).sum(-1),
    "top1": p.max(-1).values,
    "mean_logprobs": log_p.mean(-1),
    "reverse_kl": (p * (log_p - log_q)).sum(-1),
    "forward_kl": (q * (log_q - log_p)).sum(-1),
    "jsd": 0.3 * (q * (log_q - log_m)).sum(-1)
    + 0.7 * (p * (log_p - log_m)).sum(-1),
    "top_k_kl": (q * (log_q - log_p) * inside).sum(-1)
    + q_tail * (q_tail / p_tail).log(),
    "total_variation": (p - q).abs().sum(-1) / 2,
  }
  loss = sum(
    (torch.tensor(weights[name]) * value)[t["mask"]].sum()
    for name, value in stats.items()
  )
  loss.backward()
  for chunk in (None, 8):
    hidden, head, _ = gradient(x, weights, chunk, temperature=0.7)
    np.testing.assert_allclose(
      hidden, t["hidden"].grad.numpy(), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
      head, t["head"].grad.numpy(), rtol=1e-4, atol=1e-5
    )


SHAPES = ((5,), (3, 2, 5))  # chunks of 3 and 8 fill them, or do not


def smooth(seed, shape):
  """Cotangents of all but the total variation, whose gradient jumps.

  Where p and q are equal up to rounding, its sign is anybody's; its gradient is
  compared above, at inputs that stay.
  """
  drawn = coefficients(seed, shape)
  del drawn["total_variation"]
  return drawn


@functools.partial(jax.jit, static_argnames=("chunk",))
def everything(x, weights, chunk):
  rest = {k: v for k, v in x.items() if k not in ("hidden", "head")}

  def loss(hidden, head):
    stats = token_stats(hidden, head, **rest, chunk=chunk, **OPTIONS)
    return contract(stats, weights), stats

  return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
    x["hidden"], x["head"]
  )


def junk_changes_nothing(seed, shape, chunk):
  """NaN and infinity behind the mask, to the bit; gradient exactly 0."""
  x = draw(seed, shape)
  weights = smooth(seed, shape)
  clean = everything(x, weights, chunk)
  dirty = dict(x)
  rng = np.random.default_rng(seed)
  for key in ("hidden", "teacher_hidden"):
    junk = rng.choice([np.nan, np.inf, -np.inf, 1e30], size=x[key].shape)
    dirty[key] = np.where(x["mask"][..., None], x[key], junk).astype("f4")
  dirty["targets"] = np.where(x["mask"], x["targets"], -100)
  jax.tree.map(
    np.testing.assert_array_equal, everything(dirty, weights, chunk), clean
  )
  (_, stats), (hidden, _) = clean
  assert not np.asarray(hidden)[~x["mask"]].any()
  assert all(not np.asarray(s)[~x["mask"]].any() for s in stats)


def chunks_change_nothing(seed, shape, chunk):
  """Up to the order of float32 sums."""
  x = draw(seed, shape)
  weights = smooth(seed, shape)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    everything(x, weights, chunk),
    everything(x, weights, None),
  )


def order_and_slicing_change_nothing(seed, shape, chunk):
  """Live tokens alone, in any order, have the same statistics."""
  x = draw(seed, shape)
  weights = smooth(seed, shape)
  (_, stats), (hidden, head) = everything(x, weights, chunk)
  moved = np.random.default_rng(seed).permutation(x["mask"].size)

  def permute(v, rank=0):
    flat = np.asarray(v).reshape((-1,) + v.shape[len(shape) :])
    return flat[moved].reshape(v.shape)

  y = {k: v if k.endswith("head") else permute(v) for k, v in x.items()}
  shuffled = {k: permute(v) for k, v in weights.items()}
  (_, other), (other_hidden, other_head) = everything(y, shuffled, chunk)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
  jax.tree.map(lambda a, b: close(a, permute(b)), other, stats)
  close(other_hidden, permute(hidden))
  close(other_head, head)


PROPERTIES = (
  junk_changes_nothing,
  chunks_change_nothing,
  order_and_slicing_change_nothing,
)


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda f: f.__name__)
@hypothesis.given(
  seed=st.integers(0, 2**32 - 1),
  shape=st.sampled_from(SHAPES),
  chunk=st.sampled_from((3, 8)),
)
@hypothesis.settings(max_examples=100, deadline=None, database=None)
def test_property(holds, seed, shape, chunk):
  holds(seed, shape, chunk)


@pytest.mark.slow
@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda f: f.__name__)
@hypothesis.given(
  seed=st.integers(0, 2**32 - 1),
  shape=st.tuples(st.integers(1, 4), st.integers(1, 6)),
  chunk=st.integers(1, 12),
)
@hypothesis.settings(max_examples=10_000, deadline=None, database=None)
def test_property_at_length(holds, seed, shape, chunk):
  holds(seed, shape, chunk)


def test_teacher_equal_to_student_has_no_loss_and_no_gradient():
  x = draw(5)
  x |= {"teacher_hidden": x["hidden"], "teacher_head": x["head"]}
  names = ("reverse_kl", "forward_kl", "jsd", "top_k_kl", "total_variation")
  weights = coefficients(5, x["mask"].shape)
  # The total variation has a kink there, and no gradient to speak of.
  weights = {name: weights[name] for name in names[:-1]}
  for chunk in (None, 8):
    stats = compiled_stats(chunk=chunk, **OPTIONS)(**x)
    for name in names:
      np.testing.assert_allclose(getattr(stats, name), 0.0, atol=2e-7)
    for part in gradient(x, weights, chunk)[:2]:
      np.testing.assert_allclose(part, 0.0, atol=1e-6)


def test_all_masked_is_zero():
  x = draw(6)
  x["mask"][...] = False
  x["hidden"][...] = np.nan
  weights = coefficients(6, x["mask"].shape)
  for chunk in (None, 8):
    stats = compiled_stats(chunk=chunk, **OPTIONS)(**x)
    assert all(not s.any() for s in stats)
    assert all(not np.any(part) for part in gradient(x, weights, chunk))


def test_target_outside_the_cut_is_impossible():
  x = draw(7)
  x["targets"][0, 0, 0] = VOCAB
  stats = compiled_stats(chunk=None, **OPTIONS)(**x)
  assert stats.logprobs[0, 0, 0] == -np.inf
  assert np.isfinite(stats.entropies).all()


def test_statistics_without_a_teacher_are_none():
  x = {k: v for k, v in draw(8).items() if not k.startswith("teacher")}
  stats = token_stats(**x, temperature=jnp.float32(1.0))
  given = {name for name, value in stats._asdict().items() if value is not None}
  assert given == {"logprobs", "entropies", "top1", "mean_logprobs"}


def test_bf16_is_close_to_float64():
  x = draw(9, shape=(4, 64), width=64)
  keys = ("hidden", "head", "teacher_hidden", "teacher_head")
  low = x | {key: jnp.asarray(x[key], jnp.bfloat16) for key in keys}
  # The same rounded numbers in double precision: the op's own error only.
  high = x | {key: np.asarray(low[key], np.float64) for key in keys}
  stats = compiled_stats(chunk=32, **OPTIONS)(**low)
  expected = oracle.token_stats(**high, **OPTIONS)
  for name in oracle.FIELDS:
    np.testing.assert_allclose(
      getattr(stats, name), expected[name], rtol=1e-5, atol=1e-5, err_msg=name
    )


@pytest.mark.parametrize("head_dtype", [jnp.float32, jnp.bfloat16])
def test_head_gradient_is_within_3e_3_of_float64(head_dtype):
  """Summed over many chunks, from bf16 hidden states."""
  rng = np.random.default_rng(10)
  tokens, width, vocab = 2048, 32, 211
  hidden = jnp.asarray(rng.normal(size=(tokens, width)), jnp.bfloat16)
  head = jnp.asarray(rng.normal(size=(width, vocab)) / 3, jnp.bfloat16)
  targets = rng.integers(0, vocab, tokens)

  def loss(head):
    mask = jnp.ones(tokens, bool)
    stats = token_stats(hidden, head, targets, mask, chunk=16)
    return jnp.sum(-stats.logprobs - 0.1 * stats.entropies)

  found = jax.jit(jax.grad(loss))(head.astype(head_dtype))
  x, w = np.asarray(hidden, np.float64), np.asarray(head, np.float64)
  z = x @ w
  log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
  p = np.exp(log_p)
  entropy = -(p * log_p).sum(-1, keepdims=True)
  dz = p - np.eye(vocab)[targets] + 0.1 * p * (log_p + entropy)
  expected = x.T @ dz
  found = np.asarray(found, np.float64)
  error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
  assert error < 3e-3


def test_vmap_and_scan_over_microbatches_are_the_loop():
  parts = [draw(seed, shape=(2, 6)) for seed in range(3)]
  shared = {key: parts[0][key] for key in ("head", "teacher_head")}
  names = ("hidden", "targets", "mask", "teacher_hidden")
  stacked = {key: np.stack([part[key] for part in parts]) for key in names}
  weights = coefficients(0, (2, 6))

  def loss(head, part):
    stats = token_stats(
      **(part | {"head": head, "teacher_head": shared["teacher_head"]}),
      chunk=5,
      **OPTIONS,
    )
    return contract(stats, weights)

  value = jax.jit(jax.value_and_grad(loss))
  one_by_one = [
    value(shared["head"], {key: stacked[key][i] for key in names})
    for i in range(3)
  ]
  expected = sum(v for v, _ in one_by_one), sum(g for _, g in one_by_one)

  def by_vmap(head):
    return jax.vmap(loss, in_axes=(None, 0))(head, stacked).sum()

  def by_scan(head):
    body = jax.checkpoint(lambda total, part: (total + loss(head, part), None))
    return jax.lax.scan(body, 0.0, stacked)[0]

  for total in (by_vmap, by_scan):
    found = jax.jit(jax.value_and_grad(total))(shared["head"])
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
      found,
      expected,
    )


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


def bad(name, message, **changes):
  return pytest.param(changes, message, id=name)


@pytest.mark.parametrize(
  "changes, message",
  [
    bad("mask", "mask has dtype float32", mask=np.ones((2, 3, 7), "f4")),
    bad("targets", "targets has shape", targets=np.zeros((2, 3), int)),
    bad("ids", "targets has dtype", targets=np.zeros((2, 3, 7), "f4")),
    bad("tied", "must be transposed", head=np.zeros((PADDED, 16), "f4")),
    bad(
      "width", "teacher_hidden has shape", teacher_hidden=np.zeros((2, 3, 7, 8))
    ),
    bad("cut", "vocab_size is 58, expected 1 to 57", vocab_size=58),
    bad("no cut", "pass vocab_size", vocab_size=None),
    bad("half a teacher", "belong together", teacher_head=None),
    bad("temperature", "temperature is 0", temperature=0),
    bad("beta", "jsd_beta is 1.5", jsd_beta=1.5),
    bad("k", "top_k is 0", top_k=0),
    bad("chunk", "chunk is 0", chunk=0),
    bad(
      "divergence of nothing",
      "without a teacher",
      teacher_head=None,
      teacher_hidden=None,
    ),
  ],
)
def test_bad_input_is_named_while_tracing(changes, message):
  x = draw(0)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda: token_stats(**(x | OPTIONS | changes)))
