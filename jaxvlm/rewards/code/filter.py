"""Calls that no program of ours needs, refused by the kernel (seccomp).

The second wall: it holds where namespaces are missing, and narrows the kernel
that a program can reach where they are not. No socket, no child, no thread, no
program started, no memory that no limit counts, no look into another process
and no signal to one.
"""

import errno
import platform
import struct

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
# Linux, arch/x86/entry/syscalls/syscall_64.tbl and asm-generic/unistd.h.
# (x86_64, aarch64); None where the architecture has no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
  "accept": (43, 202),
  "accept4": (288, 242),
  "acct": (163, 89),
  "add_key": (248, 217),
  "adjtimex": (159, 171),
  "bind": (49, 200),
  "bpf": (321, 280),
  "chroot": (161, 51),
  "clock_adjtime": (305, 266),
  "clock_settime": (227, 112),
  # Where the user is the machine's root, no limit counts its processes.
  "clone": (56, 220),
  "connect": (42, 203),
  "delete_module": (176, 106),
  "execve": (59, 221),
  "execveat": (322, 281),
  "finit_module": (313, 273),
  "fork": (57, None),
  "fsconfig": (431, 431),
  "fsmount": (432, 432),
  "fsopen": (430, 430),
  "fspick": (433, 433),
  "init_module": (175, 105),
  "io_setup": (206, 0),
  "io_uring_enter": (426, 426),
  "io_uring_register": (427, 427),
  "io_uring_setup": (425, 425),
  "kcmp": (312, 272),
  "kexec_file_load": (320, 294),
  "kexec_load": (246, 104),
  "keyctl": (250, 219),
  "kill": (62, 129),
  "listen": (50, 201),
  "memfd_create": (319, 279),
  "memfd_secret": (447, 447),
  "mknod": (133, None),
  "mknodat": (259, 33),
  "mount": (165, 40),
  "mount_setattr": (442, 442),
  "move_mount": (429, 429),
  "mq_open": (240, 180),
  "msgget": (68, 186),
  "open_by_handle_at": (304, 265),
  "open_tree": (428, 428),
  "perf_event_open": (298, 241),
  "personality": (135, 92),
  "pidfd_getfd": (438, 438),
  "pidfd_send_signal": (424, 424),
  "pivot_root": (155, 41),
  "prlimit64": (302, 261),
  "process_vm_readv": (310, 270),
  "process_vm_writev": (311, 271),
  "ptrace": (101, 117),
  "quotactl": (179, 60),
  "reboot": (169, 142),
  "request_key": (249, 218),
  "rt_sigqueueinfo": (129, 138),
  "rt_tgsigqueueinfo": (297, 240),
  "semget": (64, 190),
  "setdomainname": (171, 162),
  "sethostname": (170, 161),
  "setns": (308, 268),
  "settimeofday": (164, 170),
  "shmget": (29, 194),
  "socket": (41, 198),
  "swapoff": (168, 225),
  "swapon": (167, 224),
  "syslog": (103, 116),
  "tgkill": (234, 131),
  "tkill": (200, 130),
  "umount2": (166, 39),
  "unshare": (272, 97),
  "userfaultfd": (323, 282),
  "vfork": (58, None),
}
_CLONE3 = 435
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER_AT, _ARCH_AT = 0, 4


def build(machine: str | None = None) -> bytes | None:
  """Returns the filter as instructions of BPF, None for an unknown machine.

  Args:
    machine: as `platform.machine()` names it; None for this one.
  """
  machine = platform.machine() if machine is None else machine
  if machine not in _ARCH:
    return None
  column = list(_ARCH).index(machine)
  rows = _REFUSED.values()
  numbers = [number for row in rows if (number := row[column]) is not None]
  tests = [
    (_AT_LEAST, _X32, "refuse"),
    (_EQUAL, _CLONE3, "absent"),
    *((_EQUAL, number, "refuse") for number in numbers),
  ]
  # Behind the tests: where none held, and what they jump to.
  tail = ["allow", "refuse", "absent"]
  out = [
    _word(_LOAD, _ARCH_AT),
    _word(_EQUAL, _ARCH[machine], 1, 0),
    _word(_RETURN, _KILL),
    _word(_LOAD, _NUMBER_AT),
  ]
  for index, (code, value, target) in enumerate(tests):
    distance = len(tests) - 1 - index + tail.index(target)
    out.append(_word(code, value, distance, 0))
  out += [
    _word(_RETURN, _ALLOW),
    _word(_RETURN, _ERROR | errno.EPERM),
    _word(_RETURN, _ERROR | errno.ENOSYS),  # glibc then tries clone
  ]
  return b"".join(out)


def _word(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
  return struct.pack("<HBBI", code, then, otherwise, value)
