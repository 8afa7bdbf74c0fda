"""Every objective against float64 oracles, in value and gradient."""

import jax
import numpy as np
import pytest

from tests.losses import cases

SHAPE = cases.SHAPES[-1]


@pytest.mark.parametrize("name", cases.CASES)
@pytest.mark.parametrize("seed", range(5))
def test_value_is_the_oracles(name, seed):
  for shape in cases.SHAPES:
    x = cases.draw(name, seed, shape)
    loss, _ = cases.value_and_gradient(name, x)
    expected = cases.CASES[name].oracle(x)
    np.testing.assert_allclose(loss, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", cases.CASES)
@pytest.mark.parametrize("seed", range(2))
def test_gradient_is_the_oracles_finite_difference(name, seed):
  x = cases.draw(name, seed, SHAPE)
  _, gradient = cases.value_and_gradient(name, x)
  step = 1e-6
  for key in cases.CASES[name].wrt:
    expected = np.zeros(x[key].shape)
    for i in np.ndindex(x[key].shape):
      values = []
      for sign in (1, -1):
        moved = x[key].copy()
        moved[i] += sign * step
        values.append(cases.CASES[name].oracle({**x, key: moved}, at=x))
      expected[i] = (values[0] - values[1]) / (2 * step)
    np.testing.assert_allclose(
      gradient[key], expected, rtol=1e-4, atol=1e-6, err_msg=key
    )


@pytest.mark.parametrize("name", cases.CASES)
def test_gradient_is_torchs(name):
  torch = pytest.importorskip(
    "torch", reason="torch is the reference for gradients: pip install .[test]"
  )
  for seed in range(5):
    x = cases.draw(name, seed, SHAPE)
    tensors = {key: torch.tensor(value) for key, value in x.items()}
    for key in cases.CASES[name].wrt:
      tensors[key].requires_grad_()
    expected = cases.CASES[name].torch(tensors)
    expected.backward()
    loss, gradient = cases.value_and_gradient(name, x)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-6, atol=1e-6)
    for key in cases.CASES[name].wrt:
      np.testing.assert_allclose(
        gradient[key],
        np.zeros(x[key].shape)
        if tensors[key].grad is None
        else tensors[key].grad.numpy(),
        rtol=1e-4,
        atol=1e-6,
        err_msg=key,
      )


@pytest.mark.parametrize("name", cases.CASES)
def test_losses_take_any_leading_shape(name):
  x = cases.draw(name, 0, SHAPE)
  case = cases.CASES[name]
  nested = {
    key: value.reshape((2, 2) + value.shape[1:])
    for key, value in cases.single(x).items()
  }
  nested = jax.tree.map(jax.numpy.asarray, nested)
  loss, _ = cases.value_and_gradient(name, x)
  found = jax.jit(lambda x: case.loss(x)[0])(nested)
  np.testing.assert_allclose(found, loss, rtol=1e-5, atol=1e-6)
