"""Files that are there whole or not at all, whenever a process is killed."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
  """Yields a file that takes the place of `path` once the block has ended.

  It is written beside `path` and renamed, which no reader sees half done; what
  was at `path` before stays if the block raises.

  Args:
    path: what is written; its folder exists.
  """
  path = pathlib.Path(path)
  # Two processes may write alike; the last one stays.
  partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
  try:
    with partial.open("wb") as file:
      yield file
    os.replace(partial, path)
  except BaseException:
    partial.unlink(missing_ok=True)
    raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Writes a text file, UTF-8, whole or not at all."""
  with writing(path) as file:
    file.write(text.encode())
