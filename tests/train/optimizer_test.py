"""Schedule, clipping and decay, against formulas written out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.train.optimizer import (
  OptimizerConfig,
  decayed,
  make_optimizer,
  schedule,
)
from tests import tiny


def rates(config, steps):
  f = schedule(config)
  return np.array([float(f(i)) for i in range(steps)])


def test_constant_rate():
  np.testing.assert_allclose(rates(OptimizerConfig(3e-4), 5), 3e-4)


def test_warm_up_starts_above_zero_and_ends_at_the_peak():
  found = rates(OptimizerConfig(1e-3, warmup_steps=4), 8)
  expected = [0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_warm_up_of_one_step_is_none():
  found = rates(OptimizerConfig(1e-3, warmup_steps=1), 3)
  np.testing.assert_allclose(found, 1e-3, rtol=1e-6)


def test_cosine_decay_after_warm_up_ends_at_end_lr_and_stays():
  config = OptimizerConfig(1e-3, warmup_steps=2, decay_steps=4, end_lr=1e-4)
  found = rates(config, 9)
  cosine = [
    1e-4 + 0.9e-3 * (1 + math.cos(math.pi * min(i, 4) / 4)) / 2
    for i in range(7)
  ]
  np.testing.assert_allclose(found, [0.5e-3, 1e-3, *cosine], rtol=1e-5)
  assert found[-1] == pytest.approx(1e-4)


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("nan")])
def test_a_rate_that_is_not_positive_is_refused(rate):
  with pytest.raises(ValueError, match="peak_lr is .*positive"):
    make_optimizer(OptimizerConfig(rate))


def names_where(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, value in leaves
    if value
  }


def test_decay_takes_matrices_and_leaves_norms_and_biases():
  tree = tiny.params()
  taken = names_where(decayed(tree))
  everything = names_where(jax.tree.map(lambda x: True, tree))
  left = everything - taken
  assert all(name.endswith(("/weight", "/bias")) for name in left)
  assert not any("norm" in name or "ln_q" in name for name in taken)
  assert {"model/embed_tokens", "model/lm_head"} <= taken
  assert any(name.endswith("qkv/kernel") for name in taken)
  assert len(left) >= 10 and len(taken) >= 10


def step_once(config, params, grads):
  optimizer = make_optimizer(config)
  updates, state = optimizer.update(grads, optimizer.init(params), params)
  return updates, state


PARAMS = {
  "visual": {"kernel": np.full((2, 3), 2.0, np.float32)},
  "model": {
    "kernel": np.full((2, 3), 3.0, np.float32),
    "weight": np.full(3, 5.0, np.float32),
  },
}
PARAMS = jax.tree.map(jnp.asarray, PARAMS)
GRADS = jax.tree.map(jnp.ones_like, PARAMS)


def test_first_update_is_adamw_of_the_clipped_gradient():
  config = OptimizerConfig(1e-2, weight_decay=0.1, clip_norm=0.3)
  updates, _ = step_once(config, PARAMS, GRADS)
  g = 0.3 / math.sqrt(15)  # 15 ones, clipped to norm 0.3
  adam = g / (g + 1e-8)
  kernel, weight = updates["model"]["kernel"], updates["model"]["weight"]
  np.testing.assert_allclose(kernel, -1e-2 * (adam + 0.1 * 3), rtol=1e-5)
  np.testing.assert_allclose(weight, -1e-2 * adam, rtol=1e-5)
