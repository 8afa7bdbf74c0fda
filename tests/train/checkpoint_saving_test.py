"""Saves that fail, overlap or are killed leave what was whole before them."""

import os
import shutil
import subprocess
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import distributed, lock
from jaxvlm.train import checkpoint, manifest
from jaxvlm.train.checkpoint import Checkpoints
from tests.train.checkpoints import (
  IDENTITY,
  abstract,
  assert_same,
  make_state,
  restore,
  run_script,
)


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
