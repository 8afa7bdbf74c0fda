"""One template process as seen from outside."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from jaxvlm.rewards.code import namespaces
from jaxvlm.rewards.code.template import Ended, Job

_HERE = pathlib.Path(__file__).parent
# The packages around this one are made without their __init__.py, which would
# bring subprocess and threads into every program's process.
_BOOT = """
import sys, types
for name in ("jaxvlm", "jaxvlm.rewards", "jaxvlm.rewards.code"):
  sys.modules[name] = package = types.ModuleType(name)
  package.__path__ = [sys.argv.pop(1)]
from jaxvlm.rewards.code import template
template.main()
"""
_START_S = 60.0  # a busy machine imports the standard library slowly


class Unavailable(OSError):
  """This machine does not allow the walls that were asked for."""


class Worker:
  """A process that runs one job after another.

  Attributes:
    walls: what the process could set up, name -> bool.
  """

  def __init__(self, isolated: bool):
    """Starts the process and waits until it is ready.

    Raises:
      Unavailable: it could not be walled in as asked.
    """
    self._folder = tempfile.mkdtemp(prefix="jaxvlm-sandbox-")
    self._socket, theirs = socket.socketpair(
      socket.AF_UNIX, socket.SOCK_SEQPACKET
    )
    self._process = subprocess.Popen(
      [
        sys.executable, "-s", "-S", "-P", "-B", "-c", _BOOT,
        *map(str, (_HERE.parents[1], _HERE.parent, _HERE)),
        str(theirs.fileno()),
        "namespaces" if isolated else "rlimits", self._folder,
      ],
      pass_fds=[theirs.fileno()],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      cwd=self._folder,
      # No variable of ours is a program's; sets are ordered alike every time.
      env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
    )  # fmt: skip
    theirs.close()
    try:
      self.walls = self._await_ready()
    except BaseException:
      self.close()
      raise

  def _await_ready(self) -> Mapping[str, bool]:
    self._socket.settimeout(_START_S)
    said = self._socket.recv(1024)
    if said == b"map":
      try:
        self._socket.send(namespaces.write_map(self._process.pid))
      except OSError as error:
        raise Unavailable(f"{error.filename}: {error.strerror}") from error
      said = self._socket.recv(1024)
    if not said:
      raise Unavailable("the sandbox's process ended while it was starting")
    walls = json.loads(said)
    if refused := walls.get("error"):
      raise Unavailable(refused)
    self._socket.settimeout(None)
    return walls

  def fileno(self) -> int:
    """Returns what a selector waits for."""
    return self._socket.fileno()

  def send(self, job: Job, program: bytes, tests: bytes) -> None:
    """Hands a job over; one answer follows.

    Raises:
      OSError: the process is gone.
    """
    files: list[int] = []
    try:
      for name, data in (("program", program), ("tests", tests)):
        files.append(os.memfd_create(name))
        _write(files[-1], data)
      socket.send_fds(self._socket, [job.pack()], files)
    finally:
      for fd in files:
        os.close(fd)

  def receive(self) -> Ended | None:
    """Returns the next answer; None where the process is gone."""
    try:
      data = self._socket.recv(1024)
    except OSError:
      return None
    return Ended.unpack(data) if data else None

  def close(self) -> None:
    """Ends the process and everything it has started."""
    self._socket.close()  # it ends by itself when nobody is at the other end
    try:
      self._process.wait(1.0)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    shutil.rmtree(self._folder, ignore_errors=True)


def _write(fd: int, data: bytes) -> None:
  rest = memoryview(data)
  while rest:
    rest = rest[os.write(fd, rest) :]
