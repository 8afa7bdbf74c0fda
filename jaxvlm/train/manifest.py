"""Manifests: what a folder of arrays must be, to the byte, to be believed.

`manifest-<step>.json` beside the folder `<step>` holds a digest of every file
in it, and one of itself. It appears in one rename, after everything it speaks
of is on the disk: a kill at any instant leaves it whole or absent.
"""

import concurrent.futures
import hashlib
import json
import logging
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

_NAME = re.compile(r"manifest-(\d+)\.json")


class DamagedError(ValueError):
  """A checkpoint that is not as it was written."""


def location(folder: pathlib.Path, step: int) -> pathlib.Path:
  """Returns where the manifest of `step` is."""
  return folder / f"manifest-{step}.json"


def steps(folder: pathlib.Path) -> list[int]:
  """Returns the steps that have a manifest, whole or not, ascending."""
  if not folder.exists():
    return []
  matches = map(_NAME.fullmatch, os.listdir(folder))
  return sorted(int(match[1]) for match in matches if match)


def write(folder: pathlib.Path, step: int, body: Mapping[str, Any]) -> None:
  """Makes `step` exist: its files, then its manifest, on the disk.

  Args:
    folder: the folder of all checkpoints.
    step: the checkpoint, whose files are in `folder/<step>`.
    body: JSON values to keep in the manifest.

  Raises:
    OSError: if the disk refuses; there is no manifest then.
  """
  files = digests(folder / str(step), sync=True)
  _replace(folder, step, {**body, "step": step, "files": files})


def amend(folder: pathlib.Path, step: int, changes: Mapping[str, Any]) -> None:
  """Changes values of a manifest, in one rename; the files stay vouched for.

  Raises:
    DamagedError: the manifest is not as it was written.
  """
  _replace(folder, step, {**read(folder, step), **changes})


def _replace(folder: pathlib.Path, step: int, body: Mapping[str, Any]) -> None:
  path = location(folder, step)
  partial = path.with_name(f"{path.name}.tmp")
  with partial.open("wb") as file:
    file.write(_serialize(body))
    file.flush()
    os.fsync(file.fileno())
  os.replace(partial, path)
  _sync_folder(folder)


def read(folder: pathlib.Path, step: int) -> dict[str, Any]:
  """Returns the manifest of `step`; DamagedError if it is not as written.

  Cheap: looks at no file of the checkpoint, only that its folder is there.
  """
  path = location(folder, step)
  try:
    data = path.read_bytes()
    body = json.loads(data)
    body.pop("sha256")
  except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
    raise DamagedError(f"step {step}: {path.name}: {error}") from error
  if _serialize(body) != data:
    raise DamagedError(f"step {step}: {path.name} has changed")
  if body["step"] != step:
    raise DamagedError(f"step {step}: {path.name} is of step {body['step']}")
  if not (folder / str(step)).is_dir():
    raise DamagedError(f"step {step}: its folder is missing")
  return body


def verify(folder: pathlib.Path, step: int, files: Mapping[str, str]) -> None:
  """Raises DamagedError unless the files of `step` have these digests."""
  try:
    found = digests(folder / str(step))
  except OSError as error:
    raise DamagedError(f"step {step}: {error}") from error
  for name in sorted(found.keys() | files.keys()):
    if name not in found:
      raise DamagedError(f"step {step}: file {name} is missing")
    if name not in files:
      raise DamagedError(f"step {step}: file {name} is foreign")
    if found[name] != files[name]:
      raise DamagedError(f"step {step}: file {name} has changed")


def newest_whole(
  folder: pathlib.Path, step: int | None = None
) -> tuple[int | None, list[tuple[int, str]]]:
  """Returns the newest step whose every byte is as it was written.

  A damaged one is named in a warning and passed over.

  Args:
    folder: the folder of all checkpoints.
    step: look at this one only.

  Returns:
    (step or None, (step, damage) of those passed over).
  """
  damages = []
  for candidate in reversed(steps(folder) if step is None else [step]):
    try:
      verify(folder, candidate, read(folder, candidate)["files"])
    except DamagedError as error:
      logging.warning("%s: skipped a damaged checkpoint: %s", folder, error)
      damages.append((candidate, str(error)))
      continue
    return candidate, damages
  return None, damages


def digests(folder: pathlib.Path, *, sync: bool = False) -> dict[str, str]:
  """Returns the sha256 of every file, by path; `sync` makes them durable."""
  paths = sorted(folder.rglob("*"))
  files = [path for path in paths if not path.is_dir()]

  def digest(path):
    with path.open("rb") as file:
      if sync:
        os.fsync(file.fileno())
      return hashlib.file_digest(file, "sha256").hexdigest()

  # Neither hashing nor waiting for the disk holds the interpreter.
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(digest, files))
    if sync:
      folders = [folder, *(path for path in paths if path.is_dir())]
      list(pool.map(_sync_folder, folders))
  names = (path.relative_to(folder).as_posix() for path in files)
  return dict(zip(names, found, strict=True))


def _sync_folder(folder: pathlib.Path) -> None:
  """Makes the names in a folder durable."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def fingerprint(body: Mapping[str, Any]) -> str:
  """Returns the sha256 of a manifest: equal ones speak of equal bytes."""
  return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _serialize(body: Mapping[str, Any]) -> bytes:
  """Returns `body` with its own digest, always in the same bytes."""
  whole = {**body, "sha256": fingerprint(body)}
  return json.dumps(whole, sort_keys=True, indent=1).encode()
