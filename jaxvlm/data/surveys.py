"""Surveys kept in a file, so that a run that starts again need not repeat them.

What a survey depends on is digested: the rows' texts, which picture files they
name (path, size, time of change), the encoder and the code of this room. As
long as that stays the same, so do drops, buckets and digest. Tokenizing and
opening pictures is what takes long; the digest needs neither.
"""

import functools
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from jaxvlm import jsonfile, wholefile
from jaxvlm.data import rows as rows_lib
from jaxvlm.data.rows import Encoder, Picture, Row, Survey


def survey(
  file: str | pathlib.Path,
  rows: Sequence[Row],
  encoder: Encoder,
  *,
  write: bool = True,
) -> Survey:
  """Returns the survey of `rows`: from the file where it holds, else anew.

  Args:
    file: JSON; written with its folder when the survey is made anew.
    rows: the rows. A sequence with an attribute `identity` that is a text is
      taken to be a pure function of it and is not read to be recognized.
    encoder: static shapes.
    write: False only reads the file; for all processes of a run but one.

  Raises:
    ValueError: as `jaxvlm.data.rows.survey`.
  """
  file = pathlib.Path(file)
  key = key_of(rows, encoder)
  if file.exists():
    try:
      found = _read(file, key, rows)
      _check_dropped(file, found, encoder)
      rows_lib.warn_of_drops(found)
      return found
    except ValueError as e:
      logging.warning("%s; the rows are surveyed again", e)
  found = rows_lib.survey(rows, encoder)
  if write:
    _write(file, key, found)
  return found


def key_of(rows: Sequence[Row], encoder: Encoder) -> str:
  """Returns a digest of everything that a survey depends on."""
  chat = encoder.chat
  digest = hashlib.sha256(_code().encode())
  digest.update(
    repr(
      (
        chat.fingerprint,
        chat.layout,
        encoder.budget,
        encoder.buckets,
        encoder.max_new_tokens,
        len(rows),
      )
    ).encode()
  )
  for piece in _pieces(rows):
    digest.update(piece)
  return digest.hexdigest()


def _pieces(rows: Sequence[Row]) -> Iterator[bytes]:
  identity = getattr(rows, "identity", None)
  if identity:
    yield identity.encode()
    return
  for row in rows:
    pictures = tuple(_picture(picture) for picture in row.images)
    # repr escapes what is no valid Unicode; such rows are dropped, not fatal.
    yield repr((*row.texts, pictures)).encode()


def _picture(picture: Picture) -> tuple[object, ...]:
  """Returns what tells a picture from another without opening it."""
  if isinstance(picture, bytes):
    return (hashlib.sha256(picture).hexdigest(),)
  if isinstance(picture, np.ndarray):
    content = hashlib.sha256(picture.tobytes()).hexdigest()
    return picture.shape, str(picture.dtype), content
  try:
    state = os.stat(picture)
  except (OSError, ValueError, TypeError):  # absent, a NUL, no path at all
    return (str(picture),)
  return str(picture), state.st_size, state.st_mtime_ns


@functools.cache
def _code() -> str:
  """Returns a digest of this room's sources: other rules, other surveys."""
  room = pathlib.Path(__file__).parent
  digest = hashlib.sha256()
  for source in sorted(room.rglob("*.py")):
    digest.update(source.read_bytes())
  return digest.hexdigest()


def _read(file: pathlib.Path, key: str, rows: Sequence[Row]) -> Survey:
  """Returns a stored survey; raises ValueError unless it is whole and ours."""
  stored = jsonfile.read(file)
  check = stored.pop("sha256", None)
  if check != _check(stored):
    raise ValueError(f"{file} is damaged")
  if stored["key"] != key:
    raise ValueError(
      f"{file} is of other rows, pictures, settings or code than these"
    )
  return Survey(
    rows,
    np.array(stored["kept"], np.int64),
    np.array(stored["buckets"], np.int64),
    tuple((name, reason) for name, reason in stored["dropped"]),
    stored["digest"],
  )


def _check_dropped(file: pathlib.Path, found: Survey, encoder: Encoder) -> None:
  """Raises ValueError if a dropped row fits now, without a change of its file.

  A folder that was away for a moment, or rights that were missing, must not
  cost a row for ever.
  """
  for index in np.setdiff1d(np.arange(len(found.rows)), found.kept):
    row = found.rows[int(index)]
    try:
      rows_lib.bucket_of(row, encoder)
    except (ValueError, FileNotFoundError):
      continue
    raise ValueError(f"{file} drops {row.id!r}, which can be used now")


def _write(file: pathlib.Path, key: str, found: Survey) -> None:
  stored = {
    "key": key,
    "digest": found.digest,
    "kept": found.kept.tolist(),
    "buckets": found.buckets.tolist(),
    "dropped": [list(pair) for pair in found.dropped],
  }
  stored["sha256"] = _check(stored)
  file.parent.mkdir(parents=True, exist_ok=True)
  wholefile.write_text(file, json.dumps(stored))


def _check(stored: dict) -> str:
  text = json.dumps(stored, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()
