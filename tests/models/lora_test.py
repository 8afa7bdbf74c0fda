"""Adapters: where they begin, what they add up to, where they are found."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.models import qwen2_5_vl
from jaxvlm.models.lora import init_lora, merge_lora
from jaxvlm.models.quantize import quantize_int8
from jaxvlm.train.freeze import merge_params
from tests import tiny

PARAMS = tiny.params()
PATTERN = r"model/layers/([qkvo]_proj|mlp)|visual/blocks/qkv|visual/merger"
make = functools.partial(
  init_lora, key=jax.random.key(0), rank=3, alpha=12.0, pattern=PATTERN
)


def trained(adapters=None, seed=0):
  """Returns adapters whose B has left 0."""
  rng = np.random.default_rng(seed)

  def draw(path, x):
    if path[-1].key != "lora_b":
      return x
    return jnp.asarray(rng.normal(size=x.shape) * 0.1, x.dtype)

  return jax.tree_util.tree_map_with_path(draw, adapters or make(PARAMS))


@functools.cache
def forward():
  batch = tiny.batch()
  return jax.jit(lambda p: qwen2_5_vl.bind(tiny.CONFIG).forward(p, batch))


def test_adapters_are_stacked_beside_their_kernels():
  adapters = make(PARAMS)
  layers = adapters["model"]["layers"]
  count = tiny.CONFIG.num_hidden_layers
  assert layers.keys() == {"q_proj", "k_proj", "v_proj", "o_proj", "mlp"}
  q, down = layers["q_proj"], layers["mlp"]["down_proj"]
  assert q["lora_a"].shape == (count, 32, 3)
  assert q["lora_b"].shape == (count, 3, 32)
  assert q["lora_scale"].shape == (count,)
  assert down["lora_a"].shape == (count, 48, 3)
  assert adapters["visual"]["merger"]["fc2"]["lora_scale"].shape == ()
  leaves = jax.tree_util.tree_leaves_with_path(adapters)
  assert {path[-1].key for path, _ in leaves} == {
    "lora_a",
    "lora_b",
    "lora_scale",
  }
  assert q["lora_scale"][0] == 4.0  # 12 / 3
  a = q["lora_a"]
  assert float(jnp.abs(a[0] - a[1]).max()) > 0.1  # layers differ
  other = layers["k_proj"]["lora_a"]
  assert float(jnp.abs(other - a).max()) > 0.1


def test_the_draw_is_that_of_the_reference_code():
  """loralib and PEFT draw A, there [r, in], by kaiming_uniform_(a=√5)."""
  torch = pytest.importorskip("torch")
  rows, rank = 1024, 16  # 2¹⁴ draws a layer
  shape = jax.ShapeDtypeStruct((2, rows, 64), jnp.float32)
  base = {"q_proj": {"kernel": shape}}
  made = init_lora(base, jax.random.key(1), rank=rank, alpha=1, pattern="")
  ours = np.asarray(made["q_proj"]["lora_a"])
  theirs = torch.empty(rank, rows)
  seeded = torch.Generator().manual_seed(0)
  theirs = torch.nn.init.kaiming_uniform_(theirs, a=5**0.5, generator=seeded)
  for measure in (np.std, np.max, np.min):  # spread and both ends
    np.testing.assert_allclose(
      measure(ours), measure(theirs.numpy()), rtol=0.02
    )
  assert np.abs(ours).max() <= 1 / rows**0.5
  assert abs(ours.mean()) < 0.02 / rows**0.5


def test_shapes_are_enough():
  shapes = jax.eval_shape(lambda: PARAMS)
  jax.tree.map(np.testing.assert_array_equal, make(shapes), make(PARAMS))


def test_the_start_is_the_base_exactly():
  with_adapters = forward()(merge_params(PARAMS, make(PARAMS)))
  np.testing.assert_array_equal(with_adapters, forward()(PARAMS))


def test_merged_weights_are_the_adapted_model():
  adapters = trained()
  merged = merge_lora(PARAMS, adapters)
  assert jax.tree.structure(merged) == jax.tree.structure(PARAMS)
  adapted = forward()(merge_params(PARAMS, adapters))
  np.testing.assert_allclose(forward()(merged), adapted, atol=1e-5, rtol=1e-5)
  # Far from where it began.
  assert float(jnp.abs(adapted - forward()(PARAMS)).max()) > 0.1


def test_merging_touches_adapted_kernels_alone_and_keeps_their_dtype():
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
  merged = merge_lora(half, trained())
  for (path, old), new in zip(
    jax.tree_util.tree_leaves_with_path(half),
    jax.tree.leaves(merged),
    strict=True,
  ):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    assert new.dtype == jnp.bfloat16
    adapted = "layers" in name or "blocks/qkv" in name or "merger" in name
    moved = bool(jnp.any(new != old))
    assert moved == (adapted and name.endswith("kernel")), name


def test_a_quantized_base_is_nothing_to_merge_into():
  base = quantize_int8(PARAMS, "model/layers")
  with pytest.raises(ValueError, match="found .*kernel_int8.* before quant"):
    merge_lora(base, trained())


@pytest.mark.parametrize(
  "change,message",
  [
    ({"pattern": "model/embed_tokens"}, "model/embed_tokens"),
    ({"rank": 0}, "rank is 0, expected 1 to 16"),
    ({"rank": 17}, "rank is 17, expected 1 to 16"),
    ({"alpha": 0.0}, "alpha is 0.0"),
  ],
)
def test_settings_that_make_no_adapter_are_named(change, message):
  settings = {"rank": 3, "alpha": 12.0, "pattern": "model/layers/k_proj"}
  with pytest.raises(ValueError, match=message):
    init_lora(PARAMS, jax.random.key(0), **{**settings, **change})
