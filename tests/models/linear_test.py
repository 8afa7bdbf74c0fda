"""The forms in which a Linear's matrix may be stored."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.models import layers

X = jax.random.normal(jax.random.key(1), (2, 3, 5, 16))
RNG = np.random.default_rng(0)


def draw(*shape):
  return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_plain_form_is_dense_to_the_bit(dtype):
  ours = layers.linear(24, True, 0.1, dtype)
  dense = nn.Dense(
    24, dtype=dtype, kernel_init=nn.initializers.normal(0.1), name=None
  )
  key = jax.random.key(0)
  params, expected = ours.init(key, X), dense.init(key, X)
  jax.tree.map(np.testing.assert_array_equal, params, expected)
  params["params"]["bias"] = draw(24)
  y, z = jax.jit(ours.apply)(params, X), jax.jit(dense.apply)(params, X)
  assert y.dtype == z.dtype == dtype
  assert np.asarray(y).tobytes() == np.asarray(z).tobytes()


def apply(leaves, dtype=jnp.float32):
  layer = layers.linear(24, "bias" in leaves, 0.1, dtype)
  return layer.apply({"params": leaves}, X)


def by_hand(matrix, bias=0.0):
  return np.asarray(X, np.float64) @ matrix + bias


ADAPTER = {
  "lora_a": draw(16, 4),
  "lora_b": draw(4, 24),
  "lora_scale": jnp.float32(0.3),
}
UPDATE = 0.3 * np.float64(ADAPTER["lora_a"]) @ np.float64(ADAPTER["lora_b"])
INTEGERS = {
  "kernel_int8": jnp.asarray(RNG.integers(-127, 128, (16, 24)), jnp.int8),
  "kernel_scale": jnp.abs(draw(24)),
}
DEQUANTIZED = np.float64(INTEGERS["kernel_int8"]) * np.float64(
  INTEGERS["kernel_scale"]
)


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("quantized", [False, True])
def test_every_form_is_its_matrix(adapted, quantized):
  kernel, bias = draw(16, 24), draw(24)
  base = INTEGERS if quantized else {"kernel": kernel}
  leaves = {**base, "bias": bias, **(ADAPTER if adapted else {})}
  matrix = DEQUANTIZED if quantized else np.float64(kernel)
  matrix = matrix + UPDATE if adapted else matrix
  expected = by_hand(matrix, np.float64(bias))
  y = apply(leaves)
  assert y.dtype == jnp.float32
  scale = np.abs(expected).max()
  np.testing.assert_allclose(y, expected, atol=1e-5 * scale)


def test_integers_round_no_more_than_weights_in_bfloat16():
  weights = {"kernel": jnp.asarray(DEQUANTIZED, jnp.float32)}
  exact = by_hand(DEQUANTIZED)
  errors = [
    np.abs(np.float64(apply(leaves, jnp.bfloat16)) - exact).mean()
    for leaves in (INTEGERS, weights)
  ]
  assert apply(INTEGERS, jnp.bfloat16).dtype == jnp.bfloat16
  assert 0 < errors[0] < errors[1]


def test_the_scale_of_an_adapter_takes_no_gradient():
  leaves = {"kernel": draw(16, 24), **ADAPTER}
  grads = jax.grad(lambda leaves: jnp.sum(apply(leaves) ** 2))(leaves)
  assert grads["lora_scale"] == 0
  assert all(jnp.abs(grads[n]).min() > 0 for n in ("lora_a", "lora_b"))
