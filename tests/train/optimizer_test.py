"""Schedule, clipping and decay, against formulas written out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvlm.models import qwen2_5_vl
from jaxvlm.models.lora import init_lora
from jaxvlm.models.qwen2_5_vl import presets
from jaxvlm.train.optimizer import (
  OptimizerConfig,
  Precision,
  Rule,
  decayed,
  make_optimizer,
  master_params,
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


CONFIGS = {
  (rule, moment, master): OptimizerConfig(
    1e-2, rule=rule, first_moment=moment, master=master
  )
  for rule in Rule
  for moment in Precision
  for master in Precision
  if rule is Rule.ADAMW or moment is Precision.FLOAT32
}


def bytes_per_parameter(config, params):
  """Returns (of the state, of the masters), without an array."""
  masters = jax.eval_shape(lambda p: master_params(config, p), params)
  state = jax.eval_shape(make_optimizer(config).init, masters)

  def size(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

  count = sum(x.size for x in jax.tree.leaves(params))
  return size(state) / count, size(masters) / count


@pytest.mark.parametrize("choice", CONFIGS, ids=str)
def test_memory_is_what_the_table_says(choice):
  """Of the 7B model; Adafactor keeps a row and a column of every matrix."""
  rule, moment, master = choice
  shapes = jax.eval_shape(
    lambda: qwen2_5_vl.init(presets.QWEN_7B, jax.random.key(0))
  )
  state, masters = bytes_per_parameter(CONFIGS[choice], shapes)
  moments = {Precision.FLOAT32: 4, Precision.BFLOAT16: 2}
  assert masters == moments[master]
  if rule is Rule.ADAMW:
    assert state == pytest.approx(moments[moment] + 4, rel=1e-6)
  else:
    assert 1e-4 < state < 5e-3


@pytest.mark.parametrize("choice", CONFIGS, ids=str)
def test_every_choice_descends_and_keeps_its_formats(choice):
  config = CONFIGS[choice]
  optimizer = make_optimizer(config)
  params = master_params(config, {"kernel": jnp.full((130, 140), 2.0)})

  def loss(params):
    return jnp.mean(params["kernel"].astype(jnp.float32) ** 2)

  @jax.jit
  def step(params, state):
    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  state, start = optimizer.init(params), params
  for _ in range(3):
    formats = jax.tree.map(lambda x: x.dtype, (params, state))
    params, state = step(params, state)
    assert jax.tree.map(lambda x: x.dtype, (params, state)) == formats
  # Every rule moves an even gradient by about the learning rate a step.
  moved = np.float64(start["kernel"]) - np.float64(params["kernel"])
  np.testing.assert_allclose(moved, 0.03, rtol=0.35)


def test_a_moment_in_bfloat16_is_the_same_to_its_rounding():
  grads = jax.tree.map(lambda x: 0.1 * jnp.sin(7 * x), PARAMS)
  full, half = (
    step_once(OptimizerConfig(1e-2, first_moment=p), PARAMS, grads)
    for p in Precision
  )
  assert {x.dtype for x in jax.tree.leaves(half[1][1][0].mu)} == {
    Precision.BFLOAT16.dtype
  }
  assert {x.dtype for x in jax.tree.leaves(half[1][1][0].nu)} == {
    Precision.FLOAT32.dtype
  }
  for a, b in zip(
    jax.tree.leaves(full[1][1][0].mu),
    jax.tree.leaves(half[1][1][0].mu),
    strict=True,
  ):
    np.testing.assert_allclose(b, a, rtol=2**-8)
    assert a.dtype == jnp.float32


def test_small_updates_vanish_in_bfloat16_masters():
  """The pitfall of the docstring: 2 − 1e-3 rounds to 2."""
  for master, moves in ((Precision.FLOAT32, True), (Precision.BFLOAT16, False)):
    config = OptimizerConfig(1e-3, master=master, weight_decay=0.0)
    params = master_params(config, PARAMS)
    updates, _ = step_once(config, params, GRADS)
    new = optax.apply_updates(params, updates)["visual"]["kernel"]
    assert bool(jnp.any(new != 2.0)) == moves


def test_adafactor_is_the_factored_moment_and_decoupled_decay():
  config = OptimizerConfig(
    1e-2, rule=Rule.ADAFACTOR, weight_decay=0.1, clip_norm=1e9
  )
  rng = np.random.default_rng(0)
  g = rng.normal(size=(128, 130)).astype(np.float32)
  params = {"kernel": jnp.full(g.shape, 3.0), "weight": jnp.ones(4)}
  grads = {"kernel": jnp.asarray(g), "weight": jnp.ones(4)}
  updates, _ = step_once(config, params, grads)
  square = np.float64(g) ** 2
  row, column = square.mean(1), square.mean(0)
  # At the first step the decay 1 − t^−0.8 is 0: the moment is this gradient's.
  step = g / np.sqrt(np.outer(row, column) / row.mean())
  step /= max(1.0, np.sqrt((step**2).mean()))
  np.testing.assert_allclose(
    updates["kernel"], -1e-2 * (step + 0.1 * 3.0), rtol=1e-4, atol=1e-6
  )
  np.testing.assert_allclose(updates["weight"], -1e-2, rtol=1e-5)


def test_a_first_moment_for_a_rule_without_one_is_refused():
  config = OptimizerConfig(rule=Rule.ADAFACTOR, first_moment=Precision.BFLOAT16)
  with pytest.raises(ValueError, match="BFLOAT16 and rule is ADAFACTOR"):
    make_optimizer(config)


def test_decay_takes_adapters_and_not_their_scale():
  adapters = init_lora(
    {"model": {"layers": {"q_proj": {"kernel": jnp.zeros((2, 8, 8))}}}},
    jax.random.key(0),
    rank=2,
    alpha=4.0,
    pattern="model/layers/q_proj",
  )
  assert names_where(decayed(adapters)) == {
    "model/layers/q_proj/lora_a",
    "model/layers/q_proj/lora_b",
  }

  def gradient(path, x):
    return jnp.full(x.shape, float(path[-1].key != "lora_scale"))

  # A constant in the tree of what is trained stays one, to the bit.
  grads = jax.tree_util.tree_map_with_path(gradient, adapters)
  for rule in Rule:
    updates, _ = step_once(OptimizerConfig(1e-2, rule=rule), adapters, grads)
    leaves = updates["model"]["layers"]["q_proj"]
    assert not jnp.any(leaves["lora_scale"])
    assert jnp.all(leaves["lora_a"] != 0)
