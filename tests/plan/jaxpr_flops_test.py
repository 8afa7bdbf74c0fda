"""FLOPs counted in jaxprs: by hand, and beside XLA's own count."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

from jaxvlm.plan import jaxpr_flops

SQUARE = jnp.ones((8, 8))


def _chain(x):
  for _ in range(4):
    x = jnp.tanh(x @ x)
  return x.sum()


def test_xla_counts_the_same_in_an_unrolled_program():
  x = jnp.ones((64, 64))
  for function in (_chain, jax.grad(_chain)):
    xla = jax.jit(function).lower(x).compile().cost_analysis()
    ours = jaxpr_flops.count(function, x)
    # XLA counts additions and multiplications of vectors, too.
    assert ours <= xla["flops"] <= 1.02 * ours


def test_a_scan_counts_as_often_as_it_runs():
  def scanned(x):
    return jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=7)[0]

  assert jaxpr_flops.count(jax.jit(scanned), SQUARE) == 7 * 2 * 8**3


def test_a_while_loop_counts_as_told():
  def loop(x):
    return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c @ c, x)

  assert jaxpr_flops.count(loop, SQUARE, trips=5) == 5 * 2 * 8**3


def test_recomputation_is_counted():
  def layer(x):
    return jnp.sin(x @ x) @ x

  plain = jaxpr_flops.count(jax.grad(lambda x: layer(x).sum()), SQUARE)
  again = jaxpr_flops.count(
    jax.grad(lambda x: jax.checkpoint(layer)(x).sum()), SQUARE
  )
  assert again > plain


def test_branches_count_by_their_share_or_the_dearest():
  def branch(x):
    return jax.lax.cond(x.sum() > 0, lambda y: y @ y @ y, lambda y: y @ y, x)

  one = 2 * 8**3
  assert jaxpr_flops.count(branch, SQUARE) == 2 * one
  # Branch 0 is the one for False.
  mixed = jaxpr_flops.count(branch, SQUARE, shares=(0.75, 0.25))
  assert mixed == 1.25 * one


def test_a_batched_product_and_a_convolution():
  a, b = jnp.ones((3, 4, 5)), jnp.ones((3, 5, 6))
  assert jaxpr_flops.count(jnp.matmul, a, b) == 2 * 3 * 4 * 5 * 6
  image, kernel = jnp.ones((1, 3, 10, 10)), jnp.ones((7, 3, 2, 2))

  def convolve(x, w):
    return jax.lax.conv(x, w, (1, 1), "VALID")

  assert jaxpr_flops.count(convolve, image, kernel) == 2 * 7 * 81 * 3 * 4


def test_a_kernel_counts_once_per_point_of_its_grid():
  def kernel(x, y):
    y[...] = x[...] @ x[...]

  def call(x):
    tile = pl.BlockSpec((8, 8), lambda i: (i, 0))
    return pl.pallas_call(
      kernel,
      grid=(x.shape[0] // 8,),
      in_specs=[tile],
      out_specs=tile,
      out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
    )(x)

  assert jaxpr_flops.count(call, jnp.ones((32, 8))) == 4 * 2 * 8**3


def test_what_each_device_does_is_counted_for_all_of_them():
  mesh = jax.sharding.AbstractMesh(
    (4,), ("a",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spread = jax.shard_map(
    lambda x: x @ x.T,
    mesh=mesh,
    in_specs=jax.P("a"),
    out_specs=jax.P("a"),
    check_vma=False,
  )
  x = jax.ShapeDtypeStruct((8, 16), jnp.float32)
  assert jaxpr_flops.count(spread, x) == 4 * 2 * 2 * 2 * 16


def test_nothing_is_counted_without_products():
  assert jaxpr_flops.count(lambda x: jnp.tanh(x) + 1, SQUARE) == 0


@pytest.mark.parametrize("trips", [1, 3])
def test_loops_multiply(trips):
  def nested(x):
    inner = lambda c, _: (c @ c, None)  # noqa: E731
    body = lambda c: jax.lax.scan(inner, c, None, length=2)[0]  # noqa: E731
    return jax.lax.while_loop(lambda c: c.sum() < 9, body, x)

  count = jaxpr_flops.count(nested, SQUARE, trips=trips)
  assert count == trips * 2 * 2 * 8**3
