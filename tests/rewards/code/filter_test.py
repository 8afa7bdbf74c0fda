"""The filter of system calls, run by an interpreter of BPF of our own."""

import errno
import struct

import pytest

from jaxvlm.rewards.code import filter

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# read, write, mmap, openat, exit_group of each.
NEEDED = {"x86_64": (0, 1, 9, 257, 231), "aarch64": (63, 64, 222, 56, 94)}
# socket, ptrace, unshare, execve, kill, clone.
REFUSED = {
  "x86_64": (41, 101, 272, 59, 62, 56),
  "aarch64": (198, 117, 97, 221, 129, 220),
}


def verdict(program, number, arch):
  """Returns what the kernel would do; bpf(4) has the instructions."""
  data = struct.pack("<II", number, arch) + bytes(56)
  words = [
    struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)
  ]
  at, held = 0, None
  while True:
    code, then, otherwise, value = words[at]
    at += 1
    if code == 0x20:
      (held,) = struct.unpack_from("<I", data, value)
    elif code == 0x15:
      at += then if held == value else otherwise
    elif code == 0x35:
      at += then if held >= value else otherwise
    else:
      assert code == 0x06
      return value


@pytest.mark.parametrize("machine", ARCH)
def test_what_is_refused(machine):
  program, arch = filter.build(machine), ARCH[machine]
  refused = 0x00050000 | errno.EPERM
  for number in NEEDED[machine]:
    assert verdict(program, number, arch) == ALLOWED
  for number in REFUSED[machine]:
    assert verdict(program, number, arch) == refused
  assert verdict(program, 435, arch) == 0x00050000 | errno.ENOSYS  # clone3
  # Calls of another architecture have other numbers.
  assert verdict(program, 0, 0x40000003) == KILLED
  assert verdict(program, 0x40000000 + 41, arch) == refused  # x32
  column = list(ARCH).index(machine)
  for numbers in filter._REFUSED.values():
    if numbers[column] is not None:
      assert verdict(program, numbers[column], arch) == refused


def test_a_machine_that_is_not_known_has_none():
  assert filter.build("riscv64") is None
