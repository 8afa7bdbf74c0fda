"""Pictures that records name: found, inside the data folder, not opened."""

import base64
import binascii
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxvlm import wholefile
from jaxvlm.data.own.example import short
from jaxvlm.data.rows import Picture
from jaxvlm.data.sources.records import inside

_DATA = "data:"
_ADDRESSES = ("http://", "https://", "ftp://")


class Pictures:
  """Turns references into pictures.

  Args:
    root: the folder that paths are relative to and cannot leave.
    keep: a folder where pictures that are part of the data file are written,
      each once, named by its content; None leaves them in memory. They are
      opened by content, so their names need no ending.
  """

  def __init__(self, root: pathlib.Path, keep: pathlib.Path | None = None):
    self._root = root
    self._keep = keep

  def find(self, reference: Any) -> Picture:
    """Returns the picture of a reference: a path, bytes, a data address, or an
    object with one of these as bytes or path.

    Raises:
      ValueError: an address on the net, a path out of the folder, anything
        else.
    """
    if isinstance(reference, Mapping):
      content = reference.get("bytes")
      reference = reference.get("path") if content is None else content
    if isinstance(reference, str) and reference.startswith(_DATA):
      reference = _decoded(reference)
    if isinstance(reference, bytes):
      return self._kept(reference)
    if not isinstance(reference, str) or not reference:
      raise ValueError(
        f"a picture is {short(reference)}, expected a path, bytes, or an object"
        " with one of these"
      )
    if reference.startswith(_ADDRESSES):
      raise ValueError(
        f"picture {reference[:60]} is an address, expected a file: nothing is"
        " downloaded; save it first"
      )
    return inside(self._root, reference.removeprefix("file://"))

  def _kept(self, content: bytes) -> Picture:
    if self._keep is None:
      return content
    file = self._keep / hashlib.sha256(content).hexdigest()
    if not file.is_file() or file.stat().st_size != len(content):
      self._keep.mkdir(parents=True, exist_ok=True)
      with wholefile.writing(file) as stream:
        stream.write(content)
    return file


def _decoded(address: str) -> bytes:
  """Returns the bytes of `data:image/png;base64,…`."""
  head, comma, body = address.partition(",")
  if not comma or not head.endswith(";base64"):
    raise ValueError(
      f"picture {address[:40]}… is a data address without ;base64, in front of"
      " its content"
    )
  try:
    return base64.b64decode(body, validate=True)
  except (binascii.Error, ValueError) as e:
    raise ValueError(f"picture {address[:40]}… is no base64: {e}") from e
