"""The kernel's calls that Python 3.11 has no names for. Linux only."""

import ctypes
import os
import platform
import struct

NEWNS, NEWUTS, NEWIPC = 0x00020000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MS_NOATIME, MS_NODIRATIME, MS_RELATIME = 1024, 2048, 1 << 21
_MNT_DETACH = 2
_PDEATHSIG, _DUMPABLE, _SECCOMP, _SUBREAPER, _NO_NEW_PRIVS = 1, 4, 22, 36, 38
_CAPABILITY_VERSION_3 = 0x20080522
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments) -> None:
  """Calls a function of libc; its error carries the function's name."""
  if getattr(_libc, name)(*arguments) == -1:
    code = ctypes.get_errno()
    raise OSError(code, f"{name}: {os.strerror(code)}")


def unshare(flags: int) -> None:
  """Moves this process, or its children (NEWPID), to new namespaces."""
  _call("unshare", flags)


def setns(fd: int, kind: int) -> None:
  """Moves this process, or its children (NEWPID), to a namespace."""
  _call("setns", fd, kind)


def mount(
  source: str, target: str, kind: str | None, flags: int, data: str = ""
) -> None:
  """Mounts a file system; see mount(2)."""
  _call(
    "mount",
    source.encode(),
    target.encode(),
    kind.encode() if kind else None,
    ctypes.c_ulong(flags),
    data.encode() or None,
  )


def unmount(target: str) -> None:
  """Takes a mount away, though somebody still uses it."""
  _call("umount2", target.encode(), _MNT_DETACH)


def make_root(folder: str) -> None:
  """Makes a mount point the root, and forgets the root that was."""
  os.chdir(folder)
  number = _PIVOT_ROOT.get(platform.machine())
  if number is None:
    raise OSError(0, f"pivot_root: not known on {platform.machine()}")
  _call("syscall", ctypes.c_long(number), b".", b".")
  unmount(".")
  os.chdir("/")


def drop_capabilities() -> None:
  """Gives up every capability that this process has."""
  header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
  _call("capset", header, bytes(24))


def never_gain() -> None:
  """Lets no program that is started later have more rights than this one."""
  _call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)


def die_with_parent(signal: int) -> None:
  """Has the kernel send a signal to this process when its parent ends."""
  _call("prctl", _PDEATHSIG, signal, 0, 0, 0)


def set_dumpable(value: bool) -> None:
  """Lets other processes of the user look into this one, or not."""
  _call("prctl", _DUMPABLE, int(value), 0, 0, 0)


def adopt_orphans() -> None:
  """Makes this process the parent of descendants that lose theirs."""
  _call("prctl", _SUBREAPER, 1, 0, 0, 0)


class Filter:
  """A seccomp filter, laid out for the kernel."""

  def __init__(self, program: bytes):
    """Args: instructions of BPF, 8 bytes each."""
    self._program = ctypes.create_string_buffer(program, len(program))
    self._header = struct.pack(
      "HxxxxxxP", len(program) // 8, ctypes.addressof(self._program)
    )

  def install(self) -> None:
    """Installs it, for good; needs `never_gain` before it."""
    _call("prctl", _SECCOMP, 2, self._header, 0, 0)
