"""A state with every kind of leaf, its restore, and programs that save it."""

import pathlib
import subprocess
import sys
import textwrap
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvlm.train import checkpoint
from jaxvlm.train.checkpoint import Checkpoints
from tests import compiling

ROOT = pathlib.Path(checkpoint.__file__).parents[2]
IDENTITY = {"config": "c0ffee", "device_layout": "cpu:1"}


class Pair(NamedTuple):
  mu: Any
  nu: Any


def make_state(seed=0):
  rng = np.random.default_rng(seed)
  normal = rng.normal(size=(7, 5)).astype(np.float32)
  return {
    "trainable": {
      "a.b/c": jnp.asarray(normal),
      "half": jnp.asarray(normal, jnp.bfloat16),
      "layers": (jnp.asarray(normal[0]), {"kernel": jnp.asarray(normal.T)}),
      "odd": jnp.asarray([np.nan, np.inf, -0.0, 1e-45], jnp.float32),
    },
    "opt": Pair(jnp.asarray(normal * 2), (jnp.int32(seed), Pair({}, ()))),
    "host": np.asarray(normal, np.float64),
    "scalar": np.float32(seed + 0.5),
    "flags": jnp.asarray([True, False]),
    "key": jax.random.key_data(jax.random.key(seed)),
    "carry": (),
    "nothing": None,
    "empty": jnp.zeros((0, 3), jnp.int32),
  }


def assert_same(got, expected):
  assert jax.tree.structure(got) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def abstract(tree):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def run_script(code, *args, before=(), **environment):
  """Runs `code` in a fresh interpreter; returns what it printed."""
  done = subprocess.run(
    [*before, sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
    env=compiling.environment(PYTHONPATH=str(ROOT), **environment),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


def restore(folder, **options):
  options = {"identity": IDENTITY, "keep": 3, **options}
  return Checkpoints(folder, **options).restore(make_state())
