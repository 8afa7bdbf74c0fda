"""A world of its own for programs: no network, no files, nobody else.

Namespaces of Linux, without privileges: a user namespace owns the others
(user_namespaces(7)). Who starts the process writes the map of users, because
only a process outside may map more than one.
"""

import os
import socket
import sysconfig
from collections.abc import Callable, Iterator

from jaxvlm.rewards.code import kernel

ALONE, SEPARATE = b"alone", b"separate"
SCRATCH = "/tmp"
_SCRATCH_SIZE = "size=4m,nr_inodes=256,mode=1777"
_READ_ONLY = (
  kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY
  | kernel.MS_NOSUID | kernel.MS_NODEV
)  # fmt: skip


def enter(control: socket.socket, root: str) -> tuple[Callable[[], int], bool]:
  """Moves this process into namespaces of its own; returns a way to fork.

  Returns only in a child, the first process of a new process namespace: when
  it ends, the kernel ends everything that it has started.

  Args:
    control: asked for the map of users, which it must answer.
    root: an empty folder that becomes the root of the visible files.

  Returns:
    fork() -> process id in the parent, 0 in the child, which is alone in a
    process namespace: its end is the end of all its descendants. And whether
    there is a second user for programs to run as.

  Raises:
    OSError: the kernel does not allow it; names the call.
  """
  kernel.unshare(
    kernel.NEWUSER | kernel.NEWNS | kernel.NEWNET | kernel.NEWIPC
    | kernel.NEWUTS | kernel.NEWPID
  )  # fmt: skip
  control.send(b"map")
  users = control.recv(16)
  if not users:
    raise OSError(0, "uid_map: the map of users was refused")
  server = os.fork()
  if server:
    _, status = os.waitpid(server, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
  kernel.die_with_parent(9)
  own = os.open("/proc/self/ns/pid", os.O_RDONLY)
  _close_user_namespaces()
  _build_root(root)

  def fork() -> int:
    kernel.unshare(kernel.NEWPID)
    pid = os.fork()
    if pid:
      # A second namespace for children is refused before this one is left.
      kernel.setns(own, kernel.NEWPID)
    return pid

  return fork, users == SEPARATE


def _close_user_namespaces() -> None:
  """No program may become root of yet another namespace, where that holds.

  Where /proc/sys is read-only (containers), the filter of calls refuses it.
  """
  try:
    _write("/proc/sys/user/max_user_namespaces", "0")
  except OSError:
    pass


def _write(path: str, text: str) -> None:
  with open(path, "w") as file:
    file.write(text)


def write_map(pid: int) -> bytes:
  """Writes the map of users of a process that has just left ours.

  Args:
    pid: of the process.

  Returns:
    SEPARATE where a second user was mapped (root alone may): programs then run
    as one that owns nothing, and the kernel counts their processes. Else ALONE.
  """
  _write(f"/proc/{pid}/setgroups", "deny")
  nobody = 65534
  if os.geteuid() == 0:
    both = f"0 0 1\n1 {nobody} 1\n"
    try:
      _write(f"/proc/{pid}/uid_map", both)
      _write(f"/proc/{pid}/gid_map", both)
      return SEPARATE
    except OSError:
      pass  # a root that is itself mapped, alone
  _write(f"/proc/{pid}/uid_map", f"0 {os.geteuid()} 1\n")
  _write(f"/proc/{pid}/gid_map", f"0 {os.getegid()} 1\n")
  return ALONE


def clean() -> None:
  """Makes the folder for programs empty again, where one has used it."""
  if os.listdir(SCRATCH):
    kernel.unmount(SCRATCH)
    _mount_scratch()


def _mount_scratch() -> None:
  flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
  kernel.mount("scratch", SCRATCH, "tmpfs", flags, _SCRATCH_SIZE)


def _build_root(root: str) -> None:
  """Shows the interpreter's own files, read-only, and nothing else."""
  kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
  flags = kernel.MS_NOSUID | kernel.MS_NODEV
  kernel.mount("root", root, "tmpfs", flags, "size=1m,mode=755")
  for source in _sources():
    _show(source, root)
  for hidden in _packages():
    if os.path.isdir(root + hidden):
      flags = kernel.MS_NOSUID | kernel.MS_NODEV
      kernel.mount("none", root + hidden, "tmpfs", flags, "size=4k,mode=755")
  os.mkdir(root + SCRATCH)
  kernel.make_root(root)
  kernel.mount("none", "/", None, _READ_ONLY)
  _mount_scratch()


def _sources() -> Iterator[str]:
  """Yields the folders of the interpreter and of the system's libraries."""
  seen: list[str] = []
  stdlib = sysconfig.get_path("stdlib")
  for folder in ("/usr/lib", "/usr/lib64", "/lib", "/lib64", stdlib,
                 f"{sysconfig.get_config_var('LIBDIR')}"):  # fmt: skip
    inside = any(folder == s or folder.startswith(s + "/") for s in seen)
    if os.path.isdir(folder) and not inside:
      seen.append(folder)
      yield folder


def _packages() -> Iterator[str]:
  """Yields folders of installed packages, which are nothing to a program."""
  stdlib = sysconfig.get_path("stdlib")
  yield f"{stdlib}/site-packages"
  yield f"{stdlib}/dist-packages"
  yield f"{sysconfig.get_config_var('LIBDIR')}/python3/dist-packages"
  yield "/usr/lib/python3/dist-packages"


def _show(source: str, root: str) -> None:
  target = root + source
  if os.path.islink(source):  # /lib -> usr/lib
    os.symlink(os.readlink(source), target)
    return
  os.makedirs(target, exist_ok=True)
  kernel.mount(source, target, None, kernel.MS_BIND | kernel.MS_REC)
  # A remount in a user namespace may not take these away.
  had = os.statvfs(source).f_flag
  kept = (
    (os.ST_NOEXEC, kernel.MS_NOEXEC),
    (os.ST_NOATIME, kernel.MS_NOATIME),
    (os.ST_NODIRATIME, kernel.MS_NODIRATIME),
    (os.ST_RELATIME, kernel.MS_RELATIME),
  )
  flags = sum(flag for bit, flag in kept if had & bit)
  kernel.mount("none", target, None, _READ_ONLY | flags)
