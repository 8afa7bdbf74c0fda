"""Checkpoints are whole or not there, whatever fault is injected."""

import logging
import os
import pathlib
import random
import shutil
import subprocess
import sys
import textwrap
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import distributed, lock
from jaxvlm.train import checkpoint, manifest
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


def restore(folder, **options):
  options = {"identity": IDENTITY, "keep": 3, **options}
  return Checkpoints(folder, **options).restore(make_state())


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


def test_keeps_the_newest(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=1, identity=IDENTITY)
  for step in (5, 10, 15):
    checkpoints.save(step, make_state(step))
    assert checkpoints.steps() == [step]
  assert sorted(os.listdir(tmp_path)) == ["15", "manifest-15.json"]


def test_keeps_the_best_besides_the_newest(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=1, keep_best=2, identity=IDENTITY)
  kept = []
  for step, score in enumerate([3.0, 9.0, None, 7.0, float("nan"), 9.0, 1.0]):
    checkpoints.save(step, make_state(step), score=score)
    kept.append(checkpoints.steps())
  assert kept == [[0], [0, 1], [0, 1, 2], [1, 3], [1, 3, 4], [1, 5], [1, 5, 6]]
  assert checkpoints.best() == 5  # of equals the newest
  again = Checkpoints(tmp_path, identity=IDENTITY)
  restored = again.restore(make_state(), step=again.best())
  assert restored.step == 5
  assert_same(restored.state, make_state(5))
  assert Checkpoints(tmp_path / "none", identity=IDENTITY).best() is None
  with pytest.raises(ValueError, match="keep_best -1"):
    Checkpoints(tmp_path, keep_best=-1, identity=IDENTITY)


def test_a_failed_save_is_told_without_waiting(tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path, identity=IDENTITY)
  begin, end = threading.Event(), threading.Event()

  def write(*_):
    begin.wait()
    raise OSError("No space left on device")

  monkeypatch.setattr(manifest, "write", write)
  checkpoints.save(1, make_state(), blocking=False)
  checkpoints.check()  # under way: nothing to tell
  begin.set()
  checkpoints._pending.add_done_callback(lambda _: end.set())
  end.wait(60)
  with pytest.raises(OSError, match="could not save step 1: No space left"):
    checkpoints.check()
  checkpoints.check()


def test_a_save_under_way_is_not_swept_by_another(tmp_path, monkeypatch):
  first, second = (Checkpoints(tmp_path, identity=IDENTITY) for _ in range(2))
  go, write = threading.Event(), manifest.write

  def waiting(*arguments):
    go.wait()
    write(*arguments)

  monkeypatch.setattr(manifest, "write", waiting)
  first.save(1, make_state(1), blocking=False)
  with pytest.raises(lock.HeldError, match=f"{tmp_path} is in use by process"):
    second.save(2, make_state(2))
  go.set()
  first.wait()
  assert_same(restore(tmp_path).state, make_state(1))
  second.save(2, make_state(2))
  assert sorted(p.name for p in tmp_path.glob(".lock-*")) == []
  assert second.steps() == [1, 2]


def test_a_lost_process_is_no_fault_of_the_folder(tmp_path, monkeypatch):
  def barrier(name):
    raise distributed.PeerError(f"not all came to {name}")

  monkeypatch.setattr(checkpoint.distributed, "barrier", barrier)
  with pytest.raises(distributed.PeerError, match="not all came to save 1"):
    Checkpoints(tmp_path, identity=IDENTITY).save(1, make_state())


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


def test_arguments_are_checked(tmp_path):
  with pytest.raises(ValueError, match="gs://bucket/run"):
    Checkpoints("gs://bucket/run", identity=IDENTITY)
  with pytest.raises(ValueError, match="keep is 0"):
    Checkpoints(tmp_path, keep=0, identity=IDENTITY)
  with pytest.raises(ValueError, match="seed is 3, expected a string"):
    Checkpoints(tmp_path, identity={"seed": 3})
  with pytest.raises(ValueError, match="identity is empty.*of other settings"):
    Checkpoints(tmp_path, identity={})
  with pytest.raises(ValueError, match="advisory is the text 'device_layout'"):
    Checkpoints(tmp_path, identity=IDENTITY, advisory="device_layout")
  checkpoints = Checkpoints(tmp_path, identity=IDENTITY)
  x = jnp.ones(2)
  for state, message in [
    ({"x": x, "n": 3}, "state: n is a int, expected an array"),
    ({"x": x, "key": jax.random.key(0)}, r"key is a PRNGKeyArray, .*key_data"),
    ({"x": abstract(x)}, "state: x is a ShapeDtypeStruct"),
    ({"a/b": x, "a": {"b": x}}, "two leaves are named a/b"),
    ({"x": ()}, "found no values"),
  ]:
    with pytest.raises(ValueError, match=message):
      checkpoints.save(1, state)
  for extra in ({"a": object()}, {"a": float("nan")}):
    with pytest.raises(ValueError, match=r"extra: .*expected JSON"):
      checkpoints.save(1, {"x": x}, extra)
  assert os.listdir(tmp_path) == []


def test_asynchronous_saves_outlive_donation(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=5, identity=IDENTITY)
  update = jax.jit(lambda x: x + 1, donate_argnums=0)
  state = jnp.zeros((1024, 1024))
  for step in (1, 2, 3):
    state = update(state)
    checkpoints.save(step, {"x": state}, blocking=False)
    for _ in range(20):
      state = update(state)
    state = state - 20
  checkpoints.wait()
  assert checkpoints.steps() == [1, 2, 3]
  for step in (3, 2, 1):
    x = checkpoints.restore({"x": state}).state["x"]
    np.testing.assert_array_equal(x, np.full((1024, 1024), step, np.float32))
    os.remove(manifest.location(tmp_path, step))


def test_a_failing_rename_leaves_the_previous_step(tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path, identity=IDENTITY)
  checkpoints.save(1, make_state(1))

  def replace(*_):
    raise OSError("input/output error")

  with monkeypatch.context() as patched:
    patched.setattr(manifest.os, "replace", replace)
    with pytest.raises(OSError, match="step 2: input/output error") as caught:
      checkpoints.save(2, make_state(2))
    checkpoints.save(3, make_state(3), blocking=False)
    with pytest.raises(OSError, match="could not save step 3"):
      checkpoints.wait()
  assert f"{tmp_path}: " in str(caught.value)
  assert "whole checkpoints in it: [1]" in str(caught.value)
  assert_same(restore(tmp_path).state, make_state(1))
  checkpoints.save(2, make_state(2))
  assert checkpoints.steps() == [1, 2]


FULL_DISK = """
  import os, subprocess, sys
  import numpy as np
  from jaxvlm.train.checkpoint import Checkpoints

  folder = sys.argv[1]

  def mount(*arguments):
    subprocess.run(["mount", *arguments, folder], check=True)

  def state(step):
    return {"x": np.random.default_rng(step).normal(size=1 << 17)}

  def refused(step, reason):
    try:
      checkpoints.save(step, state(step))
    except OSError as error:
      assert folder in str(error) and reason in str(error), error
      assert f"step {step}" in str(error), error
      assert "whole checkpoints in it: [1]" in str(error), error
    else:
      raise AssertionError(f"{reason}: saved all the same")
    again = Checkpoints(folder, identity={"run": "x"}).restore(state(0))
    assert again.step == 1
    np.testing.assert_array_equal(again.state["x"], state(1)["x"])

  mount("-t", "tmpfs", "-o", "size=4m", "tmpfs")
  checkpoints = Checkpoints(folder, identity={"run": "x"})
  checkpoints.save(1, state(1))
  # Room for nothing, for half the arrays, for nearly all.
  for room in (0, 512 << 10, 960 << 10):
    left = os.statvfs(folder)
    with open(f"{folder}/filler", "wb") as file:
      file.write(bytes(left.f_bavail * left.f_bsize - room))
    refused(2, "No space left")
    os.remove(f"{folder}/filler")
  mount("-o", "remount,ro")
  refused(3, "Read-only")
  mount("-o", "remount,rw")
  checkpoints.save(4, state(4))
  assert checkpoints.steps() == [1, 4]
  assert sorted(os.listdir(folder)) == [
    "1", "4", "manifest-1.json", "manifest-4.json"
  ]
  print("fine")
"""


def test_full_disk_and_read_only_folder(tmp_path):
  private = ("unshare", "--user", "--map-root-user", "--mount")
  if (
    not shutil.which("unshare")
    or subprocess.run(
      [*private, "mount", "-t", "tmpfs", "tmpfs", tmp_path], capture_output=True
    ).returncode
  ):
    pytest.skip("needs leave to mount a file system of its own")
  assert "fine" in run_script(FULL_DISK, tmp_path, before=private)


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


# Forks a saving process per trial, which spares the imports; kills it at a
# random moment after a random number of saves, so that a busy machine saves as
# many. Each checks that nothing its predecessors saw saved is gone.
KILLED = """
  import os, pathlib, random, signal, sys, time, traceback
  import jax, numpy as np
  from jaxvlm.train.checkpoint import Checkpoints

  folder, trials, seed = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:])
  log = folder.with_suffix(".log")

  def state(step):
    return {f"x{i}": np.full((64, 64), step * 8.0 + i) for i in range(8)}

  def work(trial, saved):
    checkpoints = Checkpoints(folder, identity={"run": "x"})
    restored = checkpoints.restore(state(0))
    step = 0
    if restored is not None:
      step = restored.step
      for name, x in state(step).items():
        np.testing.assert_array_equal(restored.state[name], x)
      assert restored.extra == {"cursor": step}
    durable = [int(line) for line in log.read_text().split()]
    assert step >= max(durable, default=0), (step, durable)
    with log.open("a") as file:
      while True:
        step += 1
        checkpoints.save(
          step, state(step), {"cursor": step}, blocking=trial % 2 == 0
        )
        if trial % 2 == 0:
          print(step, file=file, flush=True)
        os.write(saved, b".")

  log.touch()
  rng = random.Random(seed)
  for trial in range(trials):
    saves, saved = os.pipe()
    child = os.fork()
    if child == 0:
      try:
        work(trial, saved)
      except BaseException:
        traceback.print_exc()
        os._exit(1)
    os.close(saved)  # else a child that ends would be waited for
    for _ in range(rng.randrange(5)):
      os.read(saves, 1)
    os.close(saves)
    time.sleep(rng.uniform(0.0, 0.1))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child stopped by itself"
  print("fine")
"""


@pytest.mark.parametrize(
  "trials", [6, pytest.param(50, marks=pytest.mark.slow)]
)
def test_killed_at_random_moments(tmp_path, trials):
  folder = tmp_path / "checkpoints"
  printed = run_script(KILLED, folder, trials, trials, JAX_PLATFORMS="cpu")
  assert "fine" in printed
  durable = [int(x) for x in folder.with_suffix(".log").read_text().split()]
  assert durable
  like = {f"x{i}": np.zeros((64, 64)) for i in range(8)}
  restored = Checkpoints(folder, identity={"run": "x"}).restore(like)
  assert restored.step >= max(durable)
  np.testing.assert_array_equal(restored.state["x0"], restored.step * 8.0)
