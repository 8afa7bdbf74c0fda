"""Checkpoints come back whole or not at all, whatever was damaged."""

import logging
import os
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.train import manifest
from jaxvlm.train.checkpoint import Checkpoints
from tests.train.checkpoints import (
  IDENTITY,
  abstract,
  assert_same,
  make_state,
  restore,
  run_script,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A folder with steps 1, 2, 3; nobody writes to it."""
  folder = tmp_path_factory.mktemp("saved") / "checkpoints"
  checkpoints = Checkpoints(folder, keep=3, identity=IDENTITY)
  for step in (1, 2, 3):
    checkpoints.save(step, make_state(step), {"cursor": step})
  return folder


@pytest.fixture
def copied(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / "checkpoints")


def files_of(folder, step):
  """The manifest of a step and every file of it."""
  files = (p for p in (folder / str(step)).rglob("*") if p.is_file())
  return [manifest.location(folder, step), *sorted(files)]


def test_round_trip_is_equal_to_the_bit(saved):
  checkpoints = Checkpoints(saved, keep=3, identity=IDENTITY)
  assert checkpoints.steps() == [1, 2, 3]
  restored = checkpoints.restore(make_state())
  assert (restored.step, restored.extra) == (3, {"cursor": 3})
  assert_same(restored.state, make_state(3))
  leaves = jax.tree.leaves(restored.state)
  kinds = [isinstance(x, jax.Array) for x in leaves]
  expected = [isinstance(x, jax.Array) for x in jax.tree.leaves(make_state())]
  assert kinds == expected and 0 < sum(kinds) < len(kinds)


def test_without_shardings_numpy_arrays_come_back(saved):
  checkpoints = Checkpoints(saved, keep=3, identity=IDENTITY)
  restored = checkpoints.restore(abstract(make_state()))
  assert_same(restored.state, make_state(3))
  leaves = jax.tree.leaves(restored.state)
  assert all(isinstance(x, np.ndarray) for x in leaves)


def test_nothing_committed_starts_at_zero_and_says_so(tmp_path, caplog):
  folder = tmp_path / "none"
  with caplog.at_level(logging.INFO):
    assert restore(folder) is None
  assert str(folder) in caplog.text and "starting at step 0" in caplog.text
  assert not folder.exists()
  assert Checkpoints(folder, identity=IDENTITY).steps() == []


def test_unfinished_saves_are_ignored_then_removed(copied, caplog):
  os.remove(manifest.location(copied, 3))
  shutil.copytree(copied / "2", copied / "4.orbax-checkpoint-tmp")
  (copied / "manifest-4.json.tmp").write_bytes(b"{")
  (copied / "notes").mkdir()
  checkpoints = Checkpoints(copied, keep=3, identity=IDENTITY)
  assert checkpoints.restore(make_state()).step == 2
  assert not caplog.records
  checkpoints.save(3, make_state(33))
  assert sorted(os.listdir(copied)) == [
    *("1", "2", "3"),
    *(f"manifest-{step}.json" for step in (1, 2, 3)),
    "notes",
  ]
  assert_same(restore(copied).state, make_state(33))
  for step in (1, 2, 3):
    os.remove(manifest.location(copied, step))
  assert restore(copied) is None
  assert "unfinished: 1, 2, 3" in caplog.text


def assert_falls_back(folder, caplog, step=2, damaged=3):
  caplog.clear()
  restored = restore(folder)
  assert restored.step == step
  assert f"skipped a damaged checkpoint: step {damaged}:" in caplog.text
  return restored


@pytest.mark.parametrize(
  "count", [30, pytest.param(1000, marks=pytest.mark.slow)]
)
def test_bit_flips_are_all_detected(copied, caplog, count):
  rng = random.Random(0)
  files = files_of(copied, 3)
  assert len(files) < count
  for i in range(count):
    path = files[i % len(files)]
    data = path.read_bytes()
    place, bit = rng.randrange(len(data)), rng.randrange(8)
    flipped = bytearray(data)
    flipped[place] ^= 1 << bit
    path.write_bytes(flipped)
    restored = assert_falls_back(copied, caplog)
    path.write_bytes(data)
  assert_same(restored.state, make_state(2))
  assert restore(copied).step == 3


def test_every_file_truncated_or_deleted_is_detected(copied, caplog):
  for path in files_of(copied, 3):
    data = path.read_bytes()
    for cut in {len(data) // 2, len(data) - 1, 0} - {len(data)}:
      path.write_bytes(data[:cut])
      assert_falls_back(copied, caplog)
    path.unlink()
    if path == manifest.location(copied, 3):
      assert restore(copied).step == 2  # no manifest, no checkpoint
    else:
      assert_falls_back(copied, caplog)
      assert f"file {path.relative_to(copied / '3')} is missing" in caplog.text
    path.write_bytes(data)
  (copied / "3" / "foreign").write_bytes(b"")
  assert_falls_back(copied, caplog)
  assert "file foreign is foreign" in caplog.text
  shutil.rmtree(copied / "3")
  assert_falls_back(copied, caplog)


def swap(a, b):
  other = a.with_name("swapped")
  a.rename(other)
  b.rename(a)
  other.rename(b)


def test_files_swapped_between_steps_are_detected(copied, caplog):
  pairs = zip(files_of(copied, 2), files_of(copied, 3), strict=False)
  swapped = 0
  for a, b in [*pairs, (copied / "2", copied / "3")]:
    if a.is_file() and a.read_bytes() == b.read_bytes():
      continue
    swap(a, b)
    restored = assert_falls_back(copied, caplog, step=1)
    assert "damaged checkpoint: step 2:" in caplog.text
    swap(a, b)
    swapped += 1
  assert swapped >= 5
  assert_same(restored.state, make_state(1))
  shutil.copytree(copied / "2", copied / "4")
  shutil.copy(manifest.location(copied, 2), manifest.location(copied, 4))
  assert_falls_back(copied, caplog, step=3, damaged=4)
  assert "manifest-4.json is of step 2" in caplog.text


def test_committed_but_none_whole_is_refused(copied):
  for step in (1, 2, 3):
    files_of(copied, step)[-1].write_bytes(b"")
  with pytest.raises(ValueError) as caught:
    restore(copied)
  message = str(caught.value)
  assert message.startswith(str(copied)) and "none is whole" in message
  assert all(f"step {step}: file " in message for step in (1, 2, 3))


def test_damaged_steps_are_replaced_and_do_not_count_as_kept(copied):
  files_of(copied, 3)[-1].write_bytes(b"")
  files_of(copied, 2)[-1].write_bytes(b"")
  checkpoints = Checkpoints(copied, keep=2, identity=IDENTITY)
  assert checkpoints.restore(make_state()).step == 1
  checkpoints.save(2, make_state(22))
  assert checkpoints.steps() == [1, 2]
  assert_same(restore(copied).state, make_state(22))


def test_a_step_is_saved_once_and_never_under_a_later_one(copied):
  before = {p: p.stat().st_mtime_ns for p in files_of(copied, 3)}
  checkpoints = Checkpoints(copied, keep=3, identity=IDENTITY)
  for step in (2, 3):
    with pytest.raises(ValueError, match=f"save step {step}, found step 3"):
      checkpoints.save(step, make_state())
  checkpoints.restore(make_state())
  checkpoints.save(3, make_state(3))
  assert before == {p: p.stat().st_mtime_ns for p in files_of(copied, 3)}


def test_another_identity_is_refused_by_name(copied, caplog):
  with pytest.raises(ValueError) as caught:
    restore(copied, identity={**IDENTITY, "config": "beef"})
  for part in (str(copied), "config", "'c0ffee'", "'beef'", "another folder"):
    assert part in str(caught.value)
  with pytest.raises(ValueError, match="tokenizer None, expected 'new'"):
    restore(copied, identity={**IDENTITY, "tokenizer": "new"})
  with pytest.raises(ValueError, match="config 'c0ffee', expected None"):
    restore(copied, identity={"device_layout": "cpu:1"})
  elsewhere = {**IDENTITY, "device_layout": "tpu:4"}
  assert restore(copied, identity=elsewhere).step == 3
  assert "device_layout 'cpu:1', expected 'tpu:4'" in caplog.text
  with pytest.raises(ValueError, match="device_layout"):
    restore(copied, identity=elsewhere, advisory=())


def test_another_structure_is_refused_by_path(copied):
  checkpoints = Checkpoints(copied, keep=3, identity=IDENTITY)
  state = make_state()
  state["trainable"]["half"] = jnp.zeros((7, 6), jnp.bfloat16)
  state["trainable"]["new"] = jnp.zeros(())
  state["flags"] = jnp.zeros(2, jnp.int32)
  del state["scalar"]
  with pytest.raises(ValueError) as caught:
    checkpoints.restore(state)
  for part in (
    "4 of 13 arrays differ",
    "flags: found bool[2], expected int32[2]",
    "scalar: found float32[], expected nothing",
    "trainable/half: found bfloat16[7, 5], expected bfloat16[7, 6]",
    "trainable/new: found nothing, expected float32[]",
  ):
    assert part in str(caught.value)


def test_another_precision_is_converted_with_a_warning(copied, caplog):
  half = make_state()
  half["trainable"]["a.b/c"] = jnp.zeros((7, 5), jnp.bfloat16)
  restored = Checkpoints(copied, keep=3, identity=IDENTITY).restore(half)
  expected = make_state(3)
  expected["trainable"]["a.b/c"] = jnp.asarray(
    expected["trainable"]["a.b/c"], jnp.bfloat16
  )
  assert_same(restored.state, expected)
  assert "trainable/a.b/c: float32[7, 5] to bfloat16[7, 5]" in caplog.text


EIGHT_DEVICES = """
  import sys
  import jax, jax.numpy as jnp, numpy as np
  from jax.sharding import NamedSharding, PartitionSpec as P
  from jaxvlm.train.checkpoint import Checkpoints

  assert jax.device_count() == 8
  line = jax.make_mesh((8,), ("a",), (jax.sharding.AxisType.Auto,))
  square = jax.make_mesh((2, 4), ("a", "b"), (jax.sharding.AxisType.Auto,) * 2)
  x = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
  checkpoints = Checkpoints(sys.argv[1], keep=9, identity={"run": "x"})

  def check(expected):
    for sharding, dtype in [
      (NamedSharding(line, P("a")), jnp.float32),
      (NamedSharding(line, P(None, "a")), jnp.float32),
      (NamedSharding(square, P("b", "a")), jnp.float32),
      (NamedSharding(square, P("a")), jnp.bfloat16),
      (NamedSharding(line, P()), jnp.float32),
      (jax.sharding.SingleDeviceSharding(jax.devices()[2]), jnp.float32),
    ]:
      leaf = jax.ShapeDtypeStruct((8, 8), dtype, sharding=sharding)
      got = checkpoints.restore({"x": leaf}).state["x"]
      assert got.sharding == sharding and got.dtype == dtype, got.sharding
      np.testing.assert_array_equal(got, expected.astype(dtype))

  found = checkpoints.restore({"x": x})
  np.testing.assert_array_equal(found.state["x"], x)  # one device's
  check(x)
  checkpoints.save(2, {"x": jax.device_put(-x, NamedSharding(line, P("a")))})
  check(-x)
  print("fine")
"""


def test_restores_onto_other_shardings_and_device_counts(tmp_path):
  x = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
  Checkpoints(tmp_path, identity={"run": "x"}).save(1, {"x": jnp.asarray(x)})
  printed = run_script(
    EIGHT_DEVICES, tmp_path, JAX_NUM_CPU_DEVICES="8", JAX_PLATFORMS="cpu"
  )
  assert "fine" in printed
  got = Checkpoints(tmp_path, identity={"run": "x"}).restore(
    {"x": jnp.asarray(x)}
  )
  assert got.step == 2
  np.testing.assert_array_equal(got.state["x"], -x)
