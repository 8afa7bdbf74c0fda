"""Digests of large files: every byte counts, and is read once.

The digest of a file is the SHA-256 of the SHA-256s of its 16-MiB pieces, which
several threads compute. What was computed is kept in a file beside it, with
size and time of last change, so that a second start reads nothing.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import time
import uuid
from typing import NamedTuple

from jaxvlm import bars

CACHE = ".jaxvlm-digests.json"
_PIECE = 16 * 2**20
_KEEP_FROM = 64 * 2**20  # what is smaller is read again in a blink
# A file that changed this lately may change again with the same time.
_SETTLED_NS = 2 * 10**9


class _Stamp(NamedTuple):
  """What tells one content of a file from the next without reading it."""

  size: int
  mtime_ns: int


def of_file(file: pathlib.Path, *, keep_from: int = _KEEP_FROM) -> str:
  """Returns the digest (hex) of a file; shows a bar if it takes long.

  SHA-256(SHA-256(piece 0) ‖ SHA-256(piece 1) ‖ …).

  Args:
    file: any file.
    keep_from: digests of files of at least this many bytes are kept in the
      file's folder, and in memory for folders that cannot be written.

  Raises:
    OSError: the file cannot be read.
    ValueError: it changed while it was read.
  """
  stamp = _stamp(file)
  if stamp.size < keep_from or not _settled(stamp):
    return _compute(file, stamp)
  found = _kept(file, stamp)
  if found is None:
    found = _remembered(file, stamp)
    _keep(file, stamp, found)
  return found


def _compute(file: pathlib.Path, stamp: _Stamp) -> str:
  whole = hashlib.sha256()
  with (
    bars.bar(
      None,
      f"digest of {file.name}",
      total=stamp.size,
      unit="B",
      unit_scale=True,
      delay=bars.PATIENCE,
      leave=False,
    ) as bar,
    concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
  ):
    starts = range(0, stamp.size, _PIECE)
    for digest, size in pool.map(functools.partial(_piece, file), starts):
      whole.update(digest)
      bar.update(size)
  if _stamp(file) != stamp:
    raise ValueError(
      f"{file} changed while it was read; expected a folder that nobody"
      " writes: wait for the copy to end"
    )
  return whole.hexdigest()


_remembered = functools.lru_cache(maxsize=1024)(_compute)


def _settled(stamp: _Stamp) -> bool:
  return time.time_ns() - stamp.mtime_ns > _SETTLED_NS


def _stamp(file: pathlib.Path) -> _Stamp:
  found = file.stat()
  return _Stamp(found.st_size, found.st_mtime_ns)


def _piece(file: pathlib.Path, start: int) -> tuple[bytes, int]:
  """Returns (digest, bytes) of one piece; hashing frees the interpreter."""
  with file.open("rb") as stream:
    stream.seek(start)
    content = stream.read(_PIECE)
  return hashlib.sha256(content).digest(), len(content)


def _read(folder: pathlib.Path) -> dict:
  """Returns what is kept in a folder; nothing if the file is damaged."""
  try:
    kept = json.loads((folder / CACHE).read_bytes())
  except (OSError, ValueError, RecursionError):
    return {}
  return kept if isinstance(kept, dict) else {}


def _kept(file: pathlib.Path, stamp: _Stamp) -> str | None:
  match _read(file.parent).get(file.name):
    case [size, mtime_ns, str(digest)] if (size, mtime_ns) == stamp:
      return digest if len(digest) == 64 else None
  return None


def _keep(file: pathlib.Path, stamp: _Stamp, digest: str) -> None:
  """Notes a digest beside its file, if the folder can be written."""
  entries = {**_read(file.parent), file.name: [*stamp, digest]}
  # A name of its own: other processes may write at the same time.
  fresh = file.with_name(f"{CACHE}.{uuid.uuid4().hex}")
  try:
    fresh.write_text(json.dumps(entries, indent=1))
    fresh.replace(file.with_name(CACHE))
  except OSError:  # read-only, or full
    with contextlib.suppress(OSError):
      fresh.unlink()
