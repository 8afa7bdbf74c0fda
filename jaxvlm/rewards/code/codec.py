"""A closed codec of exact built-in values, and frames of them on a socket.

A program's answers cross to the process that judges them as bytes. What is
decoded is a built-in value or nothing: no class, no function and no object of
the program can come along (pickle would bring them), so that its `__eq__` is
never asked. A subclass is not its base: it is refused, not converted.
"""

import collections
import struct
import types
from collections.abc import Callable, Iterator
from typing import Any

MAX_BYTES = 1 << 20
_MAX_DEPTH = 100
_LENGTH = struct.Struct("<I")
_NUMBER = struct.Struct("<d")


class Unsendable(ValueError):
  """A value that is no exact built-in, or too large."""


class Malformed(ValueError):
  """Bytes that no value has."""


def encode(value: Any) -> bytes:
  """Returns the bytes of a value.

  Args:
    value: None, bool, int, float, complex, str, bytes, bytearray, range, one
      of these classes itself, or a list, tuple, set, frozenset, dict, deque,
      Counter, OrderedDict or defaultdict of such values. An iterator is sent
      as what it yields.

  Raises:
    Unsendable: any other type, a subclass among them; too deep or too large.
  """
  out = bytearray()
  _put(value, out, 0)
  return bytes(out)


def _put(value: Any, out: bytearray, depth: int) -> None:
  if depth > _MAX_DEPTH:
    raise Unsendable(f"a value nested more than {_MAX_DEPTH} deep")
  kind = type(value)
  if write := _ATOMS.get(kind):
    tag, data = write(value)
    out += tag + _LENGTH.pack(len(data)) + data
  elif group := _GROUPS.get(kind):
    pairs = issubclass(kind, dict)
    items = list(value.items() if pairs else value)
    out += group + _LENGTH.pack(len(items))
    for item in items:
      for part in item if pairs else (item,):
        _put(part, out, depth + 1)
  elif kind in _ITERATORS:
    _put_iterator(value, out, depth)
  else:
    raise Unsendable(f"a value of type {kind.__name__}")
  if len(out) > MAX_BYTES:
    raise Unsendable(f"a value of more than {MAX_BYTES} bytes")


def _put_iterator(value: Iterator, out: bytearray, depth: int) -> None:
  """Writes what it yields; an endless one meets the limit of bytes."""
  items = bytearray()
  count = 0
  for item in value:
    _put(item, items, depth + 1)
    count += 1
  out += b"I" + _LENGTH.pack(count) + items


def decode(data: bytes) -> Any:
  """Returns the value of bytes that `encode` wrote, or that claim to be such.

  Raises:
    Malformed: they are not the bytes of a value.
  """
  if len(data) > MAX_BYTES:
    raise Malformed(f"{len(data)} bytes, expected at most {MAX_BYTES}")
  try:
    value, end = _take(memoryview(data), 0, 0)
  except Malformed:
    raise
  except (
    LookupError,
    ValueError,
    TypeError,
    struct.error,
    OverflowError,
  ) as error:
    raise Malformed(f"{type(error).__name__}: {error}") from error
  if end != len(data):
    raise Malformed(f"{len(data) - end} bytes behind the value")
  return value


def _take(data: memoryview, at: int, depth: int) -> tuple[Any, int]:
  if depth > _MAX_DEPTH:
    raise Malformed("too deep")
  tag = bytes(data[at : at + 1])
  (size,) = _LENGTH.unpack_from(data, at + 1)
  at += 1 + _LENGTH.size
  if read := _READ.get(tag):
    if at + size > len(data):
      raise Malformed("a value is cut off")
    return read(bytes(data[at : at + size])), at + size
  make = _MAKE.get(tag)
  if make is None:
    raise Malformed(f"tag {tag!r}")
  parts = []
  for _ in range(size * (2 if tag in _PAIRS else 1)):
    part, at = _take(data, at, depth + 1)
    parts.append(part)
  if tag in _PAIRS:
    return make(zip(parts[::2], parts[1::2], strict=True)), at
  return make(parts), at


def _digits(value: int) -> bytes:
  return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _bool(data: bytes) -> bool:
  return bool(_BITS.index(data))


def _class(value: type) -> tuple[bytes, bytes]:
  if value not in _CLASSES.values():
    raise Unsendable(f"the class {value.__name__}")
  return b"k", value.__name__.encode()


_BITS = (b"\0", b"\1")
_CLASSES = {
  kind.__name__.encode(): kind
  for kind in (bool, int, float, complex, str, bytes, bytearray, range,
               list, tuple, set, frozenset, dict)
}  # fmt: skip
_ATOMS: dict[type, Callable[[Any], tuple[bytes, bytes]]] = {
  types.NoneType: lambda value: (b"N", b""),
  bool: lambda value: (b"B", _BITS[value]),
  int: lambda value: (b"i", _digits(value)),
  float: lambda value: (b"f", _NUMBER.pack(value)),
  complex: lambda value: (
    b"c",
    _NUMBER.pack(value.real) + _NUMBER.pack(value.imag),
  ),
  str: lambda value: (b"s", value.encode("utf-8", "surrogatepass")),
  bytes: lambda value: (b"b", value),
  bytearray: lambda value: (b"y", bytes(value)),
  range: lambda value: (
    b"r",
    encode((value.start, value.stop, value.step)),
  ),
  type: _class,
}
_READ: dict[bytes, Callable[[bytes], Any]] = {
  b"N": lambda data: None,
  b"B": _bool,
  b"i": lambda data: int.from_bytes(data, "little", signed=True),
  b"f": lambda data: _NUMBER.unpack(data)[0],
  b"c": lambda data: complex(*struct.unpack("<dd", data)),
  b"s": lambda data: data.decode("utf-8", "surrogatepass"),
  b"b": bytes,
  b"y": bytearray,
  b"r": lambda data: range(*decode(data)),
  b"k": _CLASSES.__getitem__,
}
_GROUPS: dict[type, bytes] = {
  list: b"l",
  tuple: b"t",
  set: b"S",
  frozenset: b"z",
  dict: b"d",
  collections.deque: b"q",
  collections.Counter: b"C",
  collections.OrderedDict: b"O",
  collections.defaultdict: b"d",
  type({}.keys()): b"l",
  type({}.values()): b"l",
  type({}.items()): b"l",
}
_MAKE: dict[bytes, Callable[[Any], Any]] = {
  b"l": list,
  b"t": tuple,
  b"S": set,
  b"z": frozenset,
  b"d": dict,
  b"q": collections.deque,
  b"C": lambda pairs: collections.Counter(dict(pairs)),
  b"O": collections.OrderedDict,
  b"I": iter,
}
_PAIRS = (b"d", b"C", b"O")
_EMPTY: tuple[Any, ...] = ([], (), set(), "", {}, range(1), b"")
_ITERATORS = frozenset(
  [
    types.GeneratorType,
    map,
    filter,
    zip,
    enumerate,
    reversed,
    *(type(iter(v)) for v in _EMPTY),
    type(reversed([])),
  ]
)
