"""One process a folder, by nothing but the exclusive creation of a file.

No flock: NFS and mounted buckets have none that can be relied on. The file
`.lock-<n>` names its process; a thread rewrites a counter in it, the
heartbeat. The lock of a dead process is not removed but overbid, by creating
n + 1: of two that find the same dead one, one succeeds.

A process of this machine lives if its id does, with the same time of start.
Of one elsewhere only the heartbeat is known: it is watched for `LIMIT_S`.
Clocks of different machines are never compared.
"""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import random
import re
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator

BEAT_S = 5.0  # seconds between two heartbeats
LIMIT_S = 60.0  # a process elsewhere without one for so long is dead
_TORN_S = 2.0  # a file without content for so long was left by a kill
_POLL_S = 0.25
_NAME = re.compile(r"\.lock-(\d+)")


class HeldError(RuntimeError):
  """Another process uses the folder."""


@dataclasses.dataclass(frozen=True)
class Owner:
  """Who holds a lock, as its file says.

  Attributes:
    host: name of the machine.
    space: its start and namespace of process ids; "" where it has no such.
    pid: process id there.
    started: when that process began, in the system's own words.
    since: when it took the lock, UTC.
    token: of this lock and no other.
    beats: how often the heart has beaten.
  """

  host: str
  space: str
  pid: int
  started: str
  since: str
  token: str
  beats: int = 0

  def to_bytes(self) -> bytes:
    """Returns the file's content, of the same length at every beat."""
    record = dataclasses.asdict(self) | {"beats": f"{self.beats:012d}"}
    return json.dumps(record).encode()


class Lock:
  """A lock that this process holds; made by `hold`."""

  def __init__(self, path: pathlib.Path, owner: Owner):
    self._path = path
    self._owner = owner
    self._lost = False
    self._ended = threading.Event()
    self._heart = threading.Thread(target=self._beat, daemon=True)
    self._heart.start()

  def check(self) -> None:
    """Raises HeldError if somebody took the lock over or removed it."""
    if self._lost:
      raise HeldError(
        f"{self._path} is not this process's any more: it was removed, or"
        f" another process took this one for dead after {LIMIT_S:.0f} s without"
        " a sign of life; see what runs in this folder, then start again"
      )

  def release(self) -> None:
    """Gives the folder back; does nothing in a forked child."""
    if os.getpid() != self._owner.pid:
      return
    self._ended.set()
    self._heart.join()
    with contextlib.suppress(OSError):
      if _token(self._path) == self._owner.token:
        self._path.unlink()

  def _beat(self) -> None:
    beats = 0
    while not self._ended.wait(BEAT_S):
      beats += 1
      try:
        if _token(self._path) != self._owner.token:
          self._lost = True
          return
        # In place and of one length: a reader never finds less than all.
        descriptor = os.open(self._path, os.O_WRONLY)
        try:
          record = dataclasses.replace(self._owner, beats=beats)
          os.write(descriptor, record.to_bytes())
        finally:
          os.close(descriptor)
      except OSError:
        continue  # a disk in trouble ends the run where it writes


@contextlib.contextmanager
def hold(
  folder: str | os.PathLike, *, limit_s: float = LIMIT_S
) -> Iterator[Lock]:
  """Holds `folder` while the block runs; makes it if it is absent.

  Args:
    folder: local or mounted.
    limit_s: how long to watch a process of another machine that gives no sign
      of life before its lock is taken over.

  Raises:
    HeldError: a living process has it: this one too, for a lock is not taken
      twice. Names process and host.
    OSError: the folder cannot be written.
  """
  lock = _take(pathlib.Path(folder), limit_s)
  try:
    yield lock
  finally:
    lock.release()


def _take(folder: pathlib.Path, limit_s: float) -> Lock:
  folder.mkdir(parents=True, exist_ok=True)
  while True:
    dead = {}
    for path in _locks(folder):
      owner = _owner(path)
      if _lives(path, owner, limit_s):
        raise HeldError(_refusal(folder, _owner(path) or owner))
      dead[path.name] = owner
    numbers = [int(name.rpartition("-")[2]) for name in dead]
    path = folder / f".lock-{max(numbers, default=0) + 1}"
    mine = _here()
    try:
      _create(path, mine)
    except FileExistsError:
      continue  # another start was faster: see who
    others = {p.name: _token(p) for p in _locks(folder)}
    if others.pop(path.name, None) == mine.token and all(
      name in dead and token == (dead[name].token if dead[name] else None)
      for name, token in others.items()
    ):
      for name, owner in dead.items():
        (folder / name).unlink(missing_ok=True)
        logging.warning(
          "%s: took over the lock of %s, which is dead",
          folder,
          _named(owner) if owner else "a process that left no name",
        )
      return Lock(path, mine)
    # Two starts at once, each sees the other's: both step back.
    path.unlink(missing_ok=True)
    time.sleep(random.uniform(0.01, 0.1))


def _create(path: pathlib.Path, owner: Owner) -> None:
  descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
  try:
    os.write(descriptor, owner.to_bytes())
  except OSError:
    path.unlink()
    raise
  finally:
    os.close(descriptor)


def _locks(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(folder / n for n in os.listdir(folder) if _NAME.fullmatch(n))


def _owner(path: pathlib.Path) -> Owner | None:
  """Returns what a lock says; None if it is gone or not whole."""
  try:
    record = json.loads(path.read_bytes())
    return Owner(**record | {"beats": int(record["beats"])})
  except (FileNotFoundError, ValueError, TypeError, KeyError):
    return None


def _token(path: pathlib.Path) -> str | None:
  owner = _owner(path)
  return owner.token if owner else None


def _lives(path: pathlib.Path, owner: Owner | None, limit_s: float) -> bool:
  """Returns whether the lock's process lives; may watch it for a while."""
  here = _here()
  if owner and (owner.host, owner.space) == (here.host, here.space):
    return _runs(owner)
  if owner:
    logging.warning(
      "%s: held by %s; watching for up to %.0f s whether it lives",
      path.parent,
      _named(owner),
      limit_s,
    )
  end = time.monotonic() + (limit_s if owner else _TORN_S)
  while time.monotonic() < end:
    time.sleep(_POLL_S)
    if not path.exists():
      return False
    now = _owner(path)
    if now != owner:  # a heartbeat, or a file that has its content now
      return bool(now) and _lives(path, now, limit_s) if not owner else True
  return False


def _here() -> Owner:
  """Returns this process as a new owner."""
  places = ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid")
  space = []
  with contextlib.suppress(OSError):  # only Linux has them
    space = [
      pathlib.Path(places[0]).read_text().strip(),
      os.readlink(places[1]),
    ]
  return Owner(
    host=socket.gethostname(),
    space=" ".join(space),
    pid=os.getpid(),
    started=_started(os.getpid()) or "",
    since=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    token=uuid.uuid4().hex,
  )


def _runs(owner: Owner) -> bool:
  """Returns whether a process of this machine is the one that took a lock."""
  try:
    os.kill(owner.pid, 0)  # asks, sends nothing
  except ProcessLookupError:
    return False
  except PermissionError:
    pass  # somebody else's
  return _started(owner.pid) in (owner.started, None)


def _started(pid: int) -> str | None:
  """Returns when a process began, "dead" for a zombie, None if not known."""
  if os.path.exists("/proc/self/stat"):
    try:
      text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
      return None
    state, *fields = text.rpartition(")")[2].split()
    return "dead" if state in "ZX" else fields[18]
  shown = subprocess.run(
    ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
    capture_output=True,
    text=True,
    check=False,
  )
  state, _, started = shown.stdout.strip().partition(" ")
  return "dead" if state.startswith("Z") else started.strip() or None


def _named(owner: Owner) -> str:
  return f"process {owner.pid} on {owner.host}, since {owner.since}"


def _refusal(folder: pathlib.Path, owner: Owner | None) -> str:
  who = _named(owner) if owner else "another process"
  if owner and (owner.pid, owner.host) == (os.getpid(), socket.gethostname()):
    who += " (this process itself)"
  return (
    f"{folder} is in use by {who}: two runs in one folder would destroy each"
    " other's log and checkpoints. Wait until it ends or stop it, then give"
    " the same command again; or choose another folder"
  )
