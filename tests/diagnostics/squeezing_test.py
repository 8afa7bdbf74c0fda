"""The five properties of squeezing on a linear softmax; float64 is the oracle.

Ren & Sutherland, arXiv:2407.10490, Section 3.3 and Appendix C.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.diagnostics import squeezing

RATE = 0.5


def softmax(z):
  z = np.exp(z - z.max())
  return z / z.sum()


def step(logits, negative, rate=RATE):
  """(p, p′) in float64 for one input of norm 1: z′ = z + η·(p − e)."""
  p = softmax(logits)
  moved = logits + rate * (p - np.eye(len(p))[negative])
  return p, softmax(moved)


def meter(logits, negatives, rate=RATE):
  """What the meter says of a softmax of linear logits, one row an input."""
  rows = len(logits)
  inputs = np.eye(rows, dtype=np.float32)  # of norm 1, orthogonal
  return jax.jit(
    lambda w: squeezing.negative_step(
      lambda w: jnp.asarray(inputs) @ w,
      w,
      jnp.asarray(negatives),
      jnp.ones(rows, bool),
      rate,
    )
  )(jnp.asarray(logits, jnp.float32))


@pytest.fixture(scope="module")
def many():
  """(logits f64[40, 50], y⁻ i[40], what the meter says): flat to peaked."""
  rng = np.random.default_rng(0)
  scale = np.repeat([0.1, 1.0, 2.0, 4.0], 10)[:, None]
  logits = scale * rng.normal(size=(40, 50))
  negatives = rng.integers(0, 50, 40)
  return logits, negatives, meter(logits, negatives)


def test_meter_is_the_oracles(many):
  logits, negatives, found = many
  for i, (z, y) in enumerate(zip(logits, negatives, strict=True)):
    p, after = step(z, y)
    top = max((v for v in range(50) if v != y), key=lambda v: p[v])
    rest = [v for v in range(50) if v not in (y, top)]
    others = [v for v in range(50) if v != y]
    expected = squeezing.Squeeze(
      level=p[y],
      peak=p[top],
      negative=after[y] - p[y],
      top=after[top] - p[top],
      rest=sum(after[v] - p[v] for v in rest),
      richer=np.corrcoef(p[others], np.log(after / p)[others])[0, 1],
      fallen=np.mean([after[v] < p[v] for v in rest]),
    )
    for name, value in expected._asdict().items():
      one = float(getattr(found, name)[i])
      # A label that moves by less than a rounding may fall on either side.
      near = {"fallen": 0.1, "richer": 1e-2}.get(name, 2e-6)
      assert one == pytest.approx(value, rel=1e-3, abs=near), name


def test_1_and_2_the_negative_falls_and_the_argmax_rises(many):
  found = many[2]
  assert (np.asarray(found.negative) < 0).all()
  assert (np.asarray(found.top) > 0).all()
  total = found.negative + found.top + found.rest
  np.testing.assert_allclose(total, 0, atol=1e-6)


def test_3_the_rich_get_richer(many):
  """log p′/p = η·p − constant over the other labels: correlation 1."""
  found = many[2]
  np.testing.assert_allclose(found.richer[10:], 1.0, atol=1e-3)


def test_4_the_peakier_the_fewer_gain_beside_the_argmax():
  """One label holds more and more; of the others more and more fall."""
  rng = np.random.default_rng(1)
  base = 0.3 * rng.normal(size=50)
  base[7] = -1.0  # y⁻: no likelier than the rest
  logits = np.stack([base + h * np.eye(50)[0] for h in (0, 2, 4, 6, 8)])
  found = meter(logits, np.full(5, 7))
  fallen = np.asarray(found.fallen)
  assert (np.diff(fallen) >= 0).all()
  assert fallen[0] < 0.7
  assert fallen[-1] == 1.0  # only y* gains


def test_5_the_smaller_the_negative_the_more_the_others_lose():
  rng = np.random.default_rng(2)
  base = rng.normal(size=50)
  base[0] = 3.0
  logits = np.stack([base - h * np.eye(50)[7] for h in (0, 2, 4, 6)])
  found = meter(logits, np.full(4, 7))
  assert (np.diff(found.rest) < 0).all()
  # All that y* gains is taken from the innocent, none from y⁻.
  share = -np.asarray(found.rest / found.top)
  assert share[-1] > 0.95


def test_masked_tokens_push_nothing():
  rng = np.random.default_rng(3)
  w = jnp.asarray(rng.normal(size=(4, 9)), jnp.float32)
  found = squeezing.negative_step(
    lambda w: w, w, jnp.arange(4), jnp.array([True, False, True, False]), 0.5
  )
  assert (np.asarray(found.negative)[::2] < 0).all()
  assert not np.asarray(found.negative)[1::2].any()


@pytest.mark.parametrize(
  ("shapes", "message"),
  [
    (((4, 9), (4, 8), (4,)), "expected"),
    (((4, 9), (4, 9), (3,)), "expected"),
    (((4, 2), (4, 2), (4,)), "2 labels"),
  ],
)
def test_bad_shapes_are_named(shapes, message):
  before, after, negatives = (np.zeros(shape) for shape in shapes)
  with pytest.raises(ValueError, match=message):
    squeezing.squeeze(before, after, negatives.astype(int))
