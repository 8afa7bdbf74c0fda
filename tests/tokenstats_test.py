"""Token statistics and their gradients against float64 and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.tokenstats import token_stats
from tests.reference import tokenstats as oracle
from tests.tokenstats_cases import (
  OPTIONS,
  PADDED,
  VOCAB,
  coefficients,
  compiled_stats,
  contract,
  draw,
  gradient,
)


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
  """In chunks, which change nothing (see tokenstats_properties_test.py)."""
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
