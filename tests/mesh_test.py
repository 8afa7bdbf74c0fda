"""One device and eight: the same losses, gradients, steps and rollouts."""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import models
from jaxvlm.models import folder, names, qwen2_5_vl
from jaxvlm.sharding import MeshConfig, make_mesh
from tests import compiling, tiny

ROOT = pathlib.Path(__file__).parents[1]
OBJECTIVES = "sft,sft_c,opd,dpo,cw_dpo,grpo"


def run(meshes, names):
  """Returns the cases of tests/mesh_cases.py, in a process of 8 devices."""
  done = subprocess.run(
    [sys.executable, "-m", "tests.mesh_cases", meshes, names],
    cwd=ROOT,
    env=compiling.environment(JAX_PLATFORMS="cpu"),
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  cases = [json.loads(line) for line in done.stdout.splitlines()]
  assert len(cases) == len(meshes.split(",")) * len(names.split(","))
  return cases


def check(case):
  if "tokens" in case:
    assert case["tokens"] == 0, case
    assert case["logprobs"] < 1e-5, case
    assert case["entropies"] < 1e-5, case
    return
  assert case["norm"] > 1e-2, case
  assert case["loss"] < 1e-5, case
  assert case["gradients"] < 1e-4, case
  assert case["parameters"] < 1e-6, case


def test_eight_devices_change_nothing():
  for case in run("2x2x2", "sft"):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["8x1x1", "1x8x1", "2x2x2", "1x2x4"])
def test_no_mesh_changes_any_objective(mesh):
  for case in run(mesh, f"{OBJECTIVES},lora,rollout"):
    check(case)


@pytest.mark.slow
def test_no_mesh_changes_a_family_of_text():
  for case in run("1x2x4", ",".join(f"{name}.sft" for name in tiny.TEXTS)):
    check(case)


@pytest.mark.slow
def test_no_mesh_changes_a_family_with_deepstack():
  for case in run("2x2x2,1x2x4", "qwen3_vl.sft,qwen3_vl.grpo"):
    check(case)


@pytest.mark.slow
def test_micro_batches_on_a_mesh_change_nothing():
  """Eight prompts in parts that four and two rows of devices can hold."""
  for case in run("2x2x2,1x2x4", "sft/2,sft_c/2,grpo/2"):
    check(case)


def test_folder_onto_a_mesh_of_one(tmp_path):
  config = tiny.write_folder(tmp_path)
  mesh = make_mesh(MeshConfig(), jax.devices()[:1])
  for dtype in (np.float32, jnp.bfloat16, None):
    found_config, found = models.load_sharded(tmp_path, mesh, dtype)
    _, expected = qwen2_5_vl.load_pretrained(tmp_path, dtype)
    assert found_config == config
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    jax.tree.map(lambda a, b: a.dtype == b.dtype or 1 / 0, found, expected)


def test_a_piece_is_read_and_no_more(tmp_path):
  """Every cut of every kind of tensor, and the bytes that left the file."""
  tiny.write_folder(tmp_path)
  _, whole = qwen2_5_vl.load_pretrained(tmp_path)
  read = []

  class Counted:
    def __init__(self, stored):
      self.stored = stored

    def __getitem__(self, index):
      read.append(self.stored[index].nbytes)
      return self.stored[index]

  config, where = folder._open(qwen2_5_vl.FAMILY, tmp_path)
  for entry in names.entries_of(qwen2_5_vl.FAMILY.naming(config), set(where)):
    slices = []
    for name in entry.names:
      handle, stored = where[name]
      slices.append(Counted(handle.get_slice(stored)))
    value = whole
    for part in entry.path.split("/"):
      value = value[part]
    for axis in range(entry.stacked, value.ndim):
      half = value.shape[axis] // 2
      index = [slice(None)] * value.ndim
      index[axis] = slice(half, 2 * half)
      read.clear()
      found = folder._read_piece(entry, slices, tuple(index), None)
      np.testing.assert_array_equal(found, value[tuple(index)])
      exact = entry.path != "visual/patch_embed/kernel" or axis == 1
      assert sum(read) == (found.nbytes if exact else value.nbytes)
