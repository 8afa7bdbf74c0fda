"""Frames on a socket between two processes: a length and so many bytes."""

import os
import struct

from jaxvlm.rewards.code.codec import MAX_BYTES

_LENGTH = struct.Struct("<I")
# A tag, a name and the frame's own words beside the value.
_MOST = MAX_BYTES + 1024


class Closed(Exception):
  """The other side is gone."""


def send(fd: int, data: bytes) -> None:
  """Writes a frame.

  Raises:
    Closed: nobody reads any more.
  """
  rest = memoryview(_LENGTH.pack(len(data)) + data)
  while rest:
    try:
      rest = rest[os.write(fd, rest) :]
    except (BrokenPipeError, ConnectionError) as error:
      raise Closed from error


def receive(fd: int) -> bytes:
  """Returns the next frame.

  Raises:
    Closed: there is none, or one beyond the limit, which nobody honest sends.
  """
  (length,) = _LENGTH.unpack(_exactly(fd, _LENGTH.size))
  if length > _MOST:
    raise Closed
  return _exactly(fd, length)


def whole(fd: int) -> bytes:
  """Returns all bytes of a file, from its beginning."""
  size = os.fstat(fd).st_size
  data = bytearray()
  while len(data) < size and (part := os.pread(fd, size, len(data))):
    data += part
  return bytes(data)


def _exactly(fd: int, length: int) -> bytes:
  data = bytearray()
  while len(data) < length:
    try:
      part = os.read(fd, length - len(data))
    except ConnectionError as error:
      raise Closed from error
    if not part:
      raise Closed
    data += part
  return bytes(data)
