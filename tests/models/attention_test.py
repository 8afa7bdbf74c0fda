"""The kernels against plain attention: values, gradients, compiled programs."""

import functools
import math
import re
import subprocess
import sys
import textwrap
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import sharding
from jaxvlm.models import attention, qwen2_5_vl
from jaxvlm.models.attention import Block, Segments
from jaxvlm.plan import programs, setting, topology
from tests import compiling, tiny

splash = functools.partial(attention.splash, interpret=True)
# The arguments given to cuDNN, with the arithmetic of XLA.
as_cudnn = functools.partial(attention.cudnn, implementation="xla")


def _normal(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float32")


def _prompt(n=3, s=150, d=16):
  """Causal, padded left, right and wholly; 2 queries a key."""
  column, ids = np.arange(s), np.zeros((n, s), np.int32)
  ids[0, column < 40] = -1
  ids[1, column >= 99] = -1
  ids[2] = -1
  q, k, v = _normal(0, n, 1, s, 4, d), *_normal(1, 2, n, 1, s, 2, d)
  blocks = (Block(k, v, Segments(jnp.asarray(ids), causal=True)),)
  return q, blocks, ids >= 0


def _completion(group, n=3, s=70, t=33, d=16, packed=(33,)):
  """Completions after a padded prompt and after one of padding only."""
  ids = np.zeros((n, s), np.int32)
  ids[0, :21] = -1
  ids[1] = -1
  q = _normal(2, n, group, t, 4, d)
  apart = np.repeat(np.arange(len(packed)), packed)
  own, prompt = _normal(3, 2, n, group, t, 2, d), _normal(4, 2, n, 1, s, 2, d)
  blocks = (
    Block(*prompt, Segments(jnp.asarray(ids))),
    Block(*own, Segments(jnp.tile(jnp.asarray(apart), (n, 1)), causal=True)),
  )
  return q, blocks, np.ones((n, t), bool)


def _pictures(n=2, p=200, d=20):
  """Two pictures with empty slots inside and behind, and a row without."""
  ids = np.full((n, p), -1, np.int32)
  ids[0, :90], ids[0, 100:180] = 0, 1
  ids[0, 30:34] = -1
  q, k, v = _normal(5, n, 1, p, 2, d), *_normal(6, 2, n, 1, p, 2, d)
  return q, (Block(k, v, Segments(jnp.asarray(ids))),), ids >= 0


CASES = {
  "prompt": _prompt,
  "completion of 1": functools.partial(_completion, 1),
  "completion of 2": functools.partial(_completion, 2),
  "completion of 8": functools.partial(_completion, 8),
  "packed rows": functools.partial(_completion, 1, packed=(10, 12, 11)),
  "pictures": _pictures,
}


def _with_keys(blocks, keys):
  pairs = zip(blocks, keys, strict=True)
  return [block._replace(k=k, v=v) for block, (k, v) in pairs]


def _value_and_gradients(attend, q, blocks, real):
  """(real outputs, gradients by q, k and v) of a random linear function."""
  real = jnp.asarray(real)[:, None, :, None, None]
  target = _normal(7, *q.shape)

  def f(q, keys):
    full = [
      b._replace(k=k, v=v) for b, (k, v) in zip(blocks, keys, strict=True)
    ]
    out = jnp.where(real, attend(q, *full), 0.0)
    return jnp.sum(out * target), out

  keys = [(b.k, b.v) for b in blocks]
  gradients, out = jax.jit(jax.grad(f, (0, 1), has_aux=True))(q, keys)
  return out, *jax.tree.leaves(gradients)


# Groups of 1 and 8 take the path of 2.
_SLOW = ("completion of 1", "completion of 8", "packed rows")


@pytest.mark.parametrize(
  "case",
  [
    pytest.param(c, marks=pytest.mark.slow if c in _SLOW else ()) for c in CASES
  ],
)
def test_equals_plain(case):
  arguments = CASES[case]()
  want = _value_and_gradients(attention.plain, *arguments)
  for kernel in (splash, as_cudnn):
    ours = _value_and_gradients(kernel, *arguments)
    for got, expected in zip(ours, want, strict=True):
      scale = np.abs(expected).max()
      assert scale > 0
      np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * scale)


def test_static_mask_is_the_dense_one():
  """All pairs of queries and keys, at lengths that fill no tile."""
  _, blocks, _ = _completion(3)
  reach = attention._Reach.of(3, 33, blocks)
  assert reach.shape == (128, 256)
  completion, step = np.divmod(np.arange(3 * 33), 33)
  key = np.arange(256)
  of, at = np.divmod(key - 70, 33)
  own = (of == completion[:, None]) & (at <= step[:, None])
  got = reach[slice(0, 128), slice(0, 256)]
  np.testing.assert_array_equal(got[:99], (key < 70) | own)
  assert got[99:].any(1).all()  # padded rows divide by something
  np.testing.assert_array_equal(reach[8:16, 64:128], got[8:16, 64:128])


def test_tiles_waste_less_than_a_lane_group_each():
  for length in (1, 127, 128, 129, 1024, 1025, 2047, 4096, 9000):
    tile = attention._tile(length)
    count = math.ceil(length / tile)
    assert tile % 128 == 0 and tile <= 1024
    assert 0 <= tile * count - length < 128 * count


# The model -------------------------------------------------------------------


@pytest.mark.slow
def test_model_is_the_same():
  """Loss and gradients of the whole model, pictures and padding included."""
  params, batch = tiny.params(), tiny.batch(group=3, length=9)
  target = _normal(8, *batch.tokens.shape, tiny.CONFIG.hidden_size)

  def gradient(attend):
    forward = qwen2_5_vl.bind(tiny.CONFIG, attend=attend).forward
    loss = lambda p: jnp.mean(forward(p, batch) * target)  # noqa: E731
    return jax.jit(jax.value_and_grad(loss))(params)

  def close(path, a, b):
    error = np.abs(a - b).max() / (np.abs(b).max() + 1e-9)
    assert error < 1e-4, f"{jax.tree_util.keystr(path)}: {error}"

  got, want = gradient(splash), gradient(attention.plain)
  jax.tree_util.tree_map_with_path(close, got, want)


def test_platform_and_masks_choose(monkeypatch):
  q, blocks, _ = _prompt()
  assert attention._choose(q, blocks) is attention.plain  # this is a CPU
  monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
  assert attention._choose(q, blocks) is attention.splash
  dense = blocks[0]._replace(mask=jnp.ones((1, 1, 1, 1), bool))
  assert attention._choose(q, (dense,)) is attention.plain
  mixed = (dense, *blocks)
  assert attention._choose(q, mixed) is attention.plain
  nothing = q[:, :, :0]
  assert attention._choose(nothing, blocks) is attention.plain


def test_gpu_needs_sixteen_bits_and_a_recent_chip(monkeypatch):
  q, blocks, _ = _prompt()
  chip = types.SimpleNamespace(compute_capability="9.0")
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(jax, "local_devices", lambda: [chip])
  half = q.astype(jnp.bfloat16)
  assert attention._choose(half, blocks) is attention.cudnn
  assert attention._choose(q, blocks) is attention.plain
  wide = jnp.zeros((*q.shape[:-1], 256), jnp.bfloat16)
  assert attention._choose(wide, blocks) is attention.plain
  for other in ("7.5", "gfx942"):
    chip.compute_capability = other
    assert attention._choose(half, blocks) is attention.plain


def test_static_mask_refuses_what_its_integer_cannot_hold():
  _, blocks, _ = _prompt()
  with pytest.raises(ValueError, match="1 completions of 65536 tokens"):
    attention._Reach.of(1, 1 << 16, blocks)


# Compiled for a TPU ----------------------------------------------------------


def _mesh(sizes, name="v5e:2x2"):
  devices = topology.devices(topology.parse(name))[: math.prod(sizes)]
  return sharding.make_mesh(sharding.MeshConfig(*sizes), devices)


def _gradient_text(sizes, arguments):
  """Returns the text of the gradient of `attend`, bfloat16, for a v5e."""
  q, blocks, _ = arguments
  keys = [(b.k, b.v) for b in blocks]

  def f(q, keys):
    full = [
      b._replace(k=k, v=v) for b, (k, v) in zip(blocks, keys, strict=True)
    ]
    return attention.attend(q, *full).astype(jnp.float32).sum()

  mesh = _mesh(sizes)
  rows = jax.NamedSharding(mesh, jax.P(sharding.ROWS))
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16, sharding=rows),
    (q, keys),
  )
  with jax.set_mesh(mesh), jax.default_matmul_precision("default"):
    lowered = jax.jit(jax.grad(f, (0, 1))).lower(*shapes)
    return lowered.compile().as_text()


@pytest.mark.parametrize(
  "sizes, case",
  [
    ((1, 1, 1), functools.partial(_prompt, d=128)),
    ((1, 1, 1), functools.partial(_pictures, d=80)),
    # Two kv heads over four devices.
    ((1, 1, 4), functools.partial(_completion, 2, d=128)),
    ((2, 1, 2), functools.partial(_completion, 8, n=2, d=128)),
  ],
)
def test_gradient_for_a_tpu_is_three_kernels(sizes, case):
  text = _gradient_text(sizes, case())
  assert text.count('custom_call_target="tpu_custom_call"') == 3


@pytest.mark.slow
@pytest.mark.parametrize(
  "shape, kv_heads",
  [((1, 1, 2048, 28, 128), 4), ((1, 1, 4096, 16, 80), 16)],
)
def test_tiles_of_real_sizes_fit_a_v5e(shape, kv_heads):
  q = jnp.zeros(shape)
  k = q[..., :kv_heads, :]
  ids = jnp.zeros((1, shape[2]), jnp.int32)
  blocks = (Block(k, k, Segments(ids, causal=kv_heads < 16)),)
  assert "tpu_custom_call" in _gradient_text((1, 1, 1), (q, blocks, None))


def _step_text(sizes):
  """Returns the text of a train step of two layers."""
  cell = setting.Setting(
    tiny.CONFIG,
    setting.Objective.SFT,
    "v5e:2x2",
    mesh=sharding.MeshConfig(*sizes),
    prompts=4,
    group=2,
    prompt_tokens=384,
    completion_tokens=301,
    patches=512,
  )
  mesh = _mesh(sizes)
  program = programs.build(cell, mesh)
  with jax.set_mesh(mesh), jax.default_matmul_precision("default"):
    return program.function.lower(*program.args).compile().as_text()


def _scores(text):
  """Returns the arrays of the size of one head's scores of any stream."""
  shapes = set(re.findall(r"\b(?:f32|bf16|pred)\[([0-9,]+)\]", text))
  pairs = {(384, 384), (300, 384), (300, 300), (512, 512), (600, 984)}
  return [s for s in shapes if tuple(map(int, s.split(",")[-2:])) in pairs]


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 2)])
def test_train_step_for_a_tpu_has_no_scores(sizes):
  text = _step_text(sizes)
  kernels = text.count('custom_call_target="tpu_custom_call"')
  assert kernels >= 3 * 3  # streams × forward, dq, dkv
  assert not _scores(text)


@pytest.mark.slow
def test_plain_train_step_for_a_tpu_has_scores(monkeypatch):
  monkeypatch.setattr(attention, "_choose", lambda *_: attention.plain)
  text = _step_text((1, 1, 1))
  assert "tpu_custom_call" not in text
  assert _scores(text)


@pytest.mark.slow
def test_equals_plain_on_a_mesh():
  """Prompts and heads cut over 8 devices, kv heads repeated, rows odd."""
  code = """
    import jax
    jax.config.update("jax_default_matmul_precision", "highest")
    import numpy as np
    from jaxvlm import sharding
    from jaxvlm.models import attention
    from tests.models import attention_test as test

    even, odd = test._completion(2, n=4), test._prompt()
    for sizes, case in (((1, 2, 4), even), ((2, 2, 2), even), ((2, 4, 1), odd)):
      want = test._value_and_gradients(attention.plain, *case)
      mesh = sharding.make_mesh(sharding.MeshConfig(*sizes))
      with jax.set_mesh(mesh):
        got = test._value_and_gradients(test.splash, *case)
      for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * abs(b).max())
  """
  subprocess.run(
    [sys.executable, "-c", textwrap.dedent(code)],
    env=compiling.environment(JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="8"),
    check=True,
  )
