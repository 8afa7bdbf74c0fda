"""Int8 weights: error, memory, and a model that computes with them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.models import qwen2_5_vl
from jaxvlm.models.quantize import quantize_int8
from jaxvlm.models.qwen2_5_vl import presets
from jaxvlm.train import objectives
from tests import tiny

PARAMS = tiny.params(scale=0.1)
PATTERN = "model/layers|visual/(blocks|merger)"


def paths(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def test_no_weight_is_further_off_than_half_a_step():
  before, after = paths(PARAMS), paths(quantize_int8(PARAMS, PATTERN))
  quantized = [name for name in after if name.endswith("kernel_int8")]
  assert len(quantized) == 14
  for name in quantized:
    values = np.float64(after[name])
    scale = np.float64(after[name.replace("_int8", "_scale")])
    weights = np.float64(before[name.removesuffix("_int8")])
    assert after[name].dtype == jnp.int8
    assert scale.shape == (*weights.shape[:-2], weights.shape[-1])
    error = np.abs(values * scale[..., None, :] - weights).max(-2)
    assert (error <= scale / 2 * (1 + 1e-4)).all(), name
    assert error.max() > 0
    # The largest of every channel is met, with its sign.
    assert (np.abs(values).max(-2) == 127).all(), name


def test_what_is_not_a_kernel_of_the_pattern_stays():
  before, after = paths(PARAMS), paths(quantize_int8(PARAMS, PATTERN))
  kept = before.keys() & after.keys()
  assert all(after[name] is before[name] for name in kept)
  assert {
    "model/embed_tokens",
    "model/lm_head",
    "model/norm/weight",
    "model/layers/q_proj/bias",
    "visual/patch_embed/kernel",
  } <= kept
  gone = before.keys() - after.keys()
  assert all(name.endswith("/kernel") for name in gone)


def test_a_channel_of_zeros_stays_zero():
  kernel = jnp.zeros((3, 4)).at[:, 1].set(2.0)
  found = quantize_int8({"x": {"kernel": kernel}}, "x")["x"]
  np.testing.assert_array_equal(found["kernel_int8"][:, 0], 0)
  np.testing.assert_array_equal(found["kernel_int8"][:, 1], 127)
  assert np.isfinite(found["kernel_scale"]).all()


def test_memory_of_the_72b_layers_is_a_quarter():
  """A byte a weight and four a channel: 4 / (1 + 4 / in) of float32."""
  shapes = jax.eval_shape(
    lambda: qwen2_5_vl.init(presets.QWEN_72B, jax.random.key(0))
  )
  after = jax.eval_shape(lambda p: quantize_int8(p, "model/layers"), shapes)

  def size(tree, *names):
    return sum(
      leaf.size * leaf.dtype.itemsize
      for path, leaf in paths(tree["model"]["layers"]).items()
      if path.rsplit("/")[-1] in names
    )

  whole = size(shapes, "kernel")
  ratio = whole / size(after, "kernel_int8", "kernel_scale")
  assert whole > 270e9
  assert 3.99 < ratio < 4


def test_the_model_hardly_notices():
  """A teacher of int8 against its own weights: a small, exact KL."""
  model = qwen2_5_vl.bind(tiny.CONFIG)
  batch = tiny.batch(length=3)
  objective = jax.jit(objectives.opd(model, model, vocab_size=tiny.VOCAB))
  total = objectives.count(batch)
  teacher = quantize_int8(PARAMS, PATTERN)
  kl, metrics = objective(PARAMS, {"teacher": teacher}, batch, total)
  informed = math.log(tiny.VOCAB) - metrics["policy/entropy"].value()
  assert informed > 0.05  # nats: the model is not uniform
  assert 1e-9 < kl < 1e-3 * informed


def test_a_pattern_without_a_kernel_is_named():
  with pytest.raises(ValueError, match="'model/embed.* none of the 15 leaves"):
    quantize_int8(PARAMS, "model/embed_tokens")
