"""One process a folder: the living keep it, the dead give it up at once."""

import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
import threading
import types

import pytest

from jaxvlm import lock as locks


def names(folder):
  return sorted(os.listdir(folder))


def owner_of(folder):
  (path,) = folder.glob(".lock-*")
  return locks._owner(path)


def leave(folder, number=1, **changes):
  """Leaves the lock of this process, changed, and no process that holds it."""
  owner = dataclasses.replace(locks._here(), **changes)
  locks._create(folder / f".lock-{number}", owner)
  return owner


class Clock:
  """Time that passes only where somebody sleeps; `then` acts at each sleep."""

  def __init__(self, monkeypatch, then=lambda slept: None):
    self.now, self._then, self._count = 0.0, then, itertools.count(1)
    monkeypatch.setattr(locks.time, "monotonic", lambda: self.now)
    monkeypatch.setattr(locks.time, "sleep", self._sleep)

  def _sleep(self, seconds):
    self.now += seconds
    self._then(next(self._count))


def test_the_second_is_refused_with_process_host_and_advice(tmp_path):
  folder = tmp_path / "made" / "here"
  with locks.hold(folder):
    mine = owner_of(folder)
    for _ in range(2):
      with pytest.raises(locks.HeldError) as refused, locks.hold(folder):
        raise AssertionError("held twice")
    text = str(refused.value)
    assert f"process {os.getpid()} on {mine.host}" in text
    assert str(folder) in text and "choose another folder" in text
    assert owner_of(folder) == mine
    with locks.hold(folder / "within"):  # a folder in it is another one
      pass
  assert names(folder) == ["within"]
  with locks.hold(folder):
    pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_every_way_out_gives_it_back(tmp_path, error):
  with pytest.raises(error), locks.hold(tmp_path):
    raise error
  assert names(tmp_path) == []


def test_a_killed_process_gives_it_up_at_once(tmp_path, caplog):
  code = (
    "import sys; from jaxvlm import lock\n"
    "with lock.hold(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", code, str(tmp_path)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "held\n"
  with (
    pytest.raises(locks.HeldError, match=f"process {process.pid} on"),
    locks.hold(tmp_path),
  ):
    pass
  process.kill()
  os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # now a zombie
  with locks.hold(tmp_path):
    assert names(tmp_path) == [".lock-2"]
  assert f"took over the lock of process {process.pid}" in caplog.text
  assert names(tmp_path) == []
  process.communicate()


def test_a_process_id_that_was_given_away_again_does_not_count(tmp_path):
  leave(tmp_path, started="long ago")
  with locks.hold(tmp_path):
    assert owner_of(tmp_path).started == locks._started(os.getpid())


def test_a_process_elsewhere_lives_while_its_heart_beats(tmp_path, monkeypatch):
  owner = leave(tmp_path, 7, host="elsewhere", pid=1)

  def alive(slept):
    if slept == 19:
      after = dataclasses.replace(owner, beats=1)
      (tmp_path / ".lock-7").write_bytes(after.to_bytes())

  clock = Clock(monkeypatch, alive)
  with (
    pytest.raises(locks.HeldError, match="process 1 on elsewhere"),
    locks.hold(tmp_path),
  ):
    pass
  assert 0 < clock.now < locks.LIMIT_S
  assert names(tmp_path) == [".lock-7"]


@pytest.mark.parametrize(
  "changes",
  [{"host": "elsewhere"}, {"space": "another start of this machine"}],
)
def test_a_process_elsewhere_without_a_heartbeat_is_dead(
  tmp_path, monkeypatch, caplog, changes
):
  leave(tmp_path, **changes)
  clock = Clock(monkeypatch)
  with locks.hold(tmp_path):
    assert clock.now == pytest.approx(locks.LIMIT_S, abs=1)
  assert "watching for up to 60 s" in caplog.text
  assert "took over the lock of process" in caplog.text


def test_a_process_elsewhere_that_ends_is_not_waited_for(tmp_path, monkeypatch):
  leave(tmp_path, host="elsewhere")
  clock = Clock(monkeypatch, lambda slept: (tmp_path / ".lock-1").unlink())
  with locks.hold(tmp_path):
    assert clock.now < 1


def test_a_file_without_content_was_left_by_a_kill(tmp_path, monkeypatch):
  (tmp_path / ".lock-1").write_bytes(b"")
  (tmp_path / ".lock-2").write_bytes(b'{"host": "x"')
  clock = Clock(monkeypatch)
  with locks.hold(tmp_path):
    assert names(tmp_path) == [".lock-3"]
    assert clock.now <= 2 * locks._TORN_S + 1


def test_a_file_whose_content_comes_late_counts(tmp_path, monkeypatch):
  path = tmp_path / ".lock-1"
  path.write_bytes(b"")
  Clock(monkeypatch, lambda _: path.write_bytes(locks._here().to_bytes()))
  with pytest.raises(locks.HeldError), locks.hold(tmp_path):
    pass


def test_of_many_that_find_a_dead_one_one_at_a_time_gets_it(tmp_path):
  inside, most, taken = 0, 0, 0
  start, count = threading.Barrier(8), threading.Lock()

  def work():
    nonlocal inside, most, taken
    start.wait()
    for _ in range(5):
      with contextlib.suppress(locks.HeldError), locks.hold(tmp_path):
        with count:
          inside += 1
          most = max(most, inside)
          taken += 1
        with count:
          inside -= 1

  leave(tmp_path, started="long ago")
  threads = [threading.Thread(target=work) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert most == 1 and taken >= 1
  assert names(tmp_path) == []


def beat(lock, count):
  """Lets the heart beat so often, now and in this thread."""
  waits = iter([False] * count + [True])
  ended, lock._ended = (
    lock._ended,
    types.SimpleNamespace(wait=lambda seconds: next(waits)),
  )
  lock._beat()
  lock._ended = ended


def test_the_heart_beats_in_place(tmp_path):
  with locks.hold(tmp_path) as lock:
    size = (tmp_path / ".lock-1").stat().st_size
    beat(lock, 3)
    assert owner_of(tmp_path).beats == 3
    assert (tmp_path / ".lock-1").stat().st_size == size
    lock.check()


def test_a_lock_that_was_taken_over_is_noticed_and_left_alone(tmp_path):
  with locks.hold(tmp_path) as lock:
    (tmp_path / ".lock-1").unlink()
    other = leave(tmp_path, host="elsewhere")
    beat(lock, 1)
    with pytest.raises(locks.HeldError, match="not this process's any more"):
      lock.check()
  assert owner_of(tmp_path) == other


def test_a_disk_in_trouble_does_not_stop_the_heart(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(28, "No space left on device")

  with locks.hold(tmp_path) as lock:
    with monkeypatch.context() as patched:
      patched.setattr(locks.os, "write", full)
      beat(lock, 2)
    lock.check()
  monkeypatch.setattr(locks.os, "write", full)
  with pytest.raises(OSError, match="No space left"), locks.hold(tmp_path):
    pass
  assert names(tmp_path) == []


def test_a_forked_child_does_not_give_it_back(tmp_path, monkeypatch):
  with locks.hold(tmp_path) as lock:
    with monkeypatch.context() as patched:
      patched.setattr(locks.os, "getpid", lambda: 1)
      lock.release()
    assert names(tmp_path) == [".lock-1"]
