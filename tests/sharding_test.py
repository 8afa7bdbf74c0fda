"""Meshes, partition rules and batches, without compiling anything."""

import functools
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from jaxvlm import sharding
from jaxvlm.models import lora, quantize, qwen2_5_vl
from jaxvlm.models.qwen2_5_vl import Config, presets
from jaxvlm.models.qwen2_5_vl.partition import RULES
from jaxvlm.sharding import AXES, MeshConfig, make_mesh
from jaxvlm.train.step import split
from tests import tiny

MODELS = {
  "tiny": tiny.CONFIG,
  "3B": presets.QWEN_3B,
  "7B": presets.QWEN_7B,
  "32B": presets.QWEN_32B,
  "72B": presets.QWEN_72B,
}
# What a pod user starts with: all the chips of a slice over fsdp, or four or
# eight of them over tensor.
MESHES = ((1, 8, 1), (1, 64, 1), (1, 256, 1), (4, 64, 1), (1, 8, 4), (1, 32, 8))


def mesh_of(*sizes):
  """Returns a mesh without devices: rules need the sizes only."""
  return AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3)


@functools.cache
def parameters(config: Config):
  return jax.eval_shape(lambda: qwen2_5_vl.init(config, jax.random.key(0)))


def paths(tree):
  return {
    jax.tree_util.keystr(k, simple=True, separator="/"): x
    for k, x in jax.tree_util.tree_leaves_with_path(tree)
  }


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_one_rule_and_nothing_large_is_whole(name, caplog):
  shapes = parameters(MODELS[name])
  for sizes in MESHES:
    mesh = mesh_of(*sizes)
    caplog.clear()
    placed = sharding.partition(mesh, shapes, RULES)
    dropped = sharding.fallbacks(mesh, shapes, RULES)
    warned = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == bool(dropped)
    for line in dropped:
      assert line in warned[0].getMessage()
    for path, place in paths(placed).items():
      x = paths(shapes)[path]
      piece = place.shard_shape(x.shape)
      bytes_ = 4 * math.prod(piece)
      if name != "tiny" and piece == x.shape:
        assert bytes_ <= 64 * 2**20, f"{path} is whole on {sizes}"
      # Layers of a stack are never spread.
      if "/layers/" in path or "/blocks/" in path:
        assert piece[0] == x.shape[0]


@pytest.mark.parametrize("name", ["3B", "7B", "32B", "72B"])
@pytest.mark.parametrize("sizes", [m for m in MESHES if m[2] == 1])
def test_published_sizes_divide_over_fsdp(name, sizes):
  shapes = parameters(MODELS[name])
  assert sharding.fallbacks(mesh_of(*sizes), shapes, RULES) == []
  placed = sharding.partition(mesh_of(*sizes), shapes, RULES)
  total = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
  held = sum(
    math.prod(place.shard_shape(paths(shapes)[path].shape))
    for path, place in paths(placed).items()
  )
  # Vectors are all that is not cut.
  assert held < 1.01 * total / sizes[1] + 4e6


def test_what_does_not_divide_is_said(caplog):
  shapes = parameters(presets.QWEN_7B)
  mesh = mesh_of(1, 8, 8)  # the tower's MLP has 3,420 hidden units
  dropped = sharding.fallbacks(mesh, shapes, RULES)
  assert dropped == [
    "visual/blocks/mlp/down_proj/kernel 3420 over tensor=8",
    "visual/blocks/mlp/gate_proj/kernel 3420 over tensor=8",
    "visual/blocks/mlp/up_proj/kernel 3420 over tensor=8",
  ]
  placed = sharding.partition(mesh, shapes, RULES)
  assert "3 array(s)" in caplog.text
  kernels = placed["visual"]["blocks"]["mlp"]
  assert kernels["gate_proj"]["kernel"].spec == P(None, "fsdp", None)
  assert kernels["down_proj"]["kernel"].spec == P(None, None, "fsdp")


def test_layers_unstacked_and_adapters_have_rules():
  params = parameters(tiny.CONFIG)
  mesh = mesh_of(1, 2, 2)
  stacked = paths(sharding.partition(mesh, params, RULES))
  apart = jax.eval_shape(qwen2_5_vl.bind(tiny.CONFIG).unstack, params)
  for path, place in paths(sharding.partition(mesh, apart, RULES)).items():
    whole = stacked[path.replace("/0/", "/").replace("/1/", "/")]
    assert tuple(place.spec) == tuple(whole.spec)[-len(place.spec) :]
  adapters = jax.eval_shape(
    lambda: lora.init_lora(
      params, jax.random.key(0), rank=4, alpha=8.0, pattern=".*"
    )
  )
  found = paths(sharding.partition(mesh, adapters, RULES))
  assert sum(path.endswith("lora_a") for path in found) == 15
  quantized = jax.eval_shape(lambda p: quantize.quantize_int8(p, ".*"), params)
  found = paths(sharding.partition(mesh, quantized, RULES))
  for path, place in found.items():
    if path.endswith("_int8"):
      assert place.spec == stacked[path.removesuffix("_int8")].spec


@pytest.mark.parametrize(
  "rules,found",
  [
    (RULES[1:], "no rule"),
    ((*RULES, ("embed_tokens", P())), "embed_tokens"),
  ],
)
def test_no_rule_and_two_rules_are_errors(rules, found):
  with pytest.raises(ValueError, match=f"model/embed_tokens .*{found}"):
    sharding.partition(mesh_of(1, 2, 1), parameters(tiny.CONFIG), rules)


@pytest.mark.parametrize(
  "optimizer", [optax.adamw(1e-3), optax.adafactor(1e-3)]
)
def test_optimizer_state_lies_with_its_parameter(optimizer):
  shapes = parameters(presets.QWEN_7B)
  mesh = mesh_of(1, 8, 2)
  own = paths(sharding.partition(mesh, shapes, RULES))
  state = jax.eval_shape(optimizer.init, shapes)
  placed = paths(sharding.partition(mesh, state, RULES))
  moments = 0
  for path, x in paths(state).items():
    owner = next((p for p in own if path.endswith("/" + p)), None)
    if owner and x.shape == paths(shapes)[owner].shape:
      moments += 1
      assert placed[path].spec == own[owner].spec, path
    elif math.prod(x.shape) == 1:
      assert placed[path].spec == P()
    piece = placed[path].shard_shape(x.shape)
    if piece == x.shape:
      assert 4 * math.prod(piece) <= 64 * 2**20, path
  assert moments


@pytest.mark.parametrize(
  "config,count,message",
  [
    (MeshConfig(2, -1, 4), 12, "mesh.data is 2.*12 device"),
    (MeshConfig(1, 4, 1), 8, "mesh.fsdp is 4.*8 device"),
    (MeshConfig(-1, -1, 1), 8, "at most one -1"),
    (MeshConfig(1, 0, 1), 8, "positive"),
  ],
)
def test_a_mesh_that_does_not_fit_is_named(config, count, message):
  with pytest.raises(ValueError, match=message):
    make_mesh(config, [jax.devices()[0]] * count)


def test_minus_one_takes_the_rest():
  mesh = make_mesh(MeshConfig())
  assert mesh.shape == {"data": 1, "fsdp": len(jax.devices()), "tensor": 1}
  assert mesh.axis_types == (AxisType.Auto,) * 3


def test_prompts_are_spread_along_their_axis():
  batch = tiny.batch()
  placed = sharding.batch_sharding(mesh_of(2, 2, 2), batch)
  for path, place in paths(placed).items():
    x = paths(batch)[path]
    piece = list(x.shape)
    axis = 1 if path == "prompts/positions" else 0
    piece[axis] //= 4
    assert list(place.shard_shape(x.shape)) == piece, path


def test_a_batch_that_does_not_divide_is_named():
  with pytest.raises(ValueError, match="4 prompts .* 8 devices"):
    sharding.batch_sharding(mesh_of(4, 2, 1), tiny.batch())
  with (
    jax.sharding.use_abstract_mesh(mesh_of(1, 4, 1)),
    pytest.raises(ValueError, match="2 prompts .* 4 devices"),
  ):
    split(tiny.batch(), 2)


def test_on_one_device_nothing_is_traced():
  def work(x):
    return sharding.constrain(x, "fsdp", "tensor") + 1

  plain = str(jax.make_jaxpr(work)(jnp.ones((4, 4))))
  with jax.set_mesh(make_mesh(MeshConfig(), jax.devices()[:1])):
    assert str(jax.make_jaxpr(work)(jnp.ones((4, 4)))) == plain
  assert "sharding_constraint" not in plain
  with jax.sharding.use_abstract_mesh(mesh_of(1, 4, 1)):
    assert "sharding_constraint" in str(jax.make_jaxpr(work)(jnp.ones((4, 4))))


def test_constrain_leaves_whole_what_does_not_divide():
  with jax.sharding.use_abstract_mesh(mesh_of(2, 3, 4)):
    assert sharding.fit((4, 8), sharding.ROWS, "tensor") == P("data", "tensor")
    assert sharding.fit((6, 6), sharding.ROWS, "tensor") == P(
      ("data", "fsdp"), None
    )
    assert sharding.fit((5, 5, 4), "data", "absent") == P(None, None, None)


def test_a_shard_of_one_process_is_the_batch():
  mesh = make_mesh(MeshConfig(), jax.devices()[:1])
  batch = tiny.batch()
  placed = sharding.shard_batch(mesh, batch)
  jax.tree.map(np.testing.assert_array_equal, placed, batch)
  np.testing.assert_array_equal(sharding.local_rows(mesh, 4), np.arange(4))


def test_the_layout_is_told_where_affinity_is_not_known(monkeypatch):
  assert f"{len(sharding.os.sched_getaffinity(0))} cores" in (
    sharding.device_layout()
  )
  monkeypatch.delattr(sharding.os, "sched_getaffinity")  # macOS
  assert f"{sharding.os.cpu_count()} cores" in sharding.device_layout()


def scans(jaxpr):
  """Yields every scan over layers, in order (random keys are scans too)."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "scan":
      if any(v.aval.dtype == jnp.float32 for v in eqn.outvars):
        yield eqn
    elif "jaxpr" in eqn.params:
      inner = eqn.params["jaxpr"]
      yield from scans(getattr(inner, "jaxpr", inner))


def test_no_collected_layer_is_kept_for_the_backward_pass():
  """Else every device would hold the model, a layer at a time or not."""
  model, batch = qwen2_5_vl.bind(tiny.CONFIG), tiny.batch()

  def program():
    loss = lambda p: model.forward(p, batch).sum()  # noqa: E731
    return jax.make_jaxpr(jax.grad(loss))(parameters(tiny.CONFIG))

  kernels = {
    x.shape
    for path, x in paths(parameters(tiny.CONFIG)).items()
    if path.endswith("/kernel") and ("/layers/" in path or "/blocks/" in path)
  }
  with jax.sharding.use_abstract_mesh(mesh_of(1, 2, 1)):
    tower, decoder, *backward = scans(program().jaxpr)
  assert len(backward) == 2
  for scan in (tower, decoder):
    kept = [v.aval.shape for v in scan.outvars[scan.params["num_carry"] :]]
    assert kept
    assert not kernels & set(kept)


def test_the_mesh_of_others_is_left_alone():
  mesh = AbstractMesh((2,), ("rows",), axis_types=(AxisType.Auto,))
  with jax.sharding.use_abstract_mesh(mesh):
    placed = sharding.partition(mesh, parameters(tiny.CONFIG), RULES)
    assert all(x.is_fully_replicated for x in jax.tree.leaves(placed))
    assert sharding.fit((4, 4), sharding.ROWS) == P(None, None)
    assert sharding.row_parts() == 1
