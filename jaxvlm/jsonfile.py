"""The JSON files of a model folder: read with errors that name the file."""

import json
import pathlib
from typing import Any


def read(file: str | pathlib.Path, kinds: tuple[type, ...] = (dict,)) -> Any:
  """Returns the object that a JSON file holds.

  Args:
    file: the file.
    kinds: what it may be: dict, or list too.

  Raises:
    FileNotFoundError: no such file.
    ValueError: empty, not UTF-8, no JSON, or no object; names the file.
  """
  file = pathlib.Path(file)
  return parse(file.read_bytes(), str(file), kinds)


def parse(
  content: str | bytes, name: str, kinds: tuple[type, ...] = (dict,)
) -> Any:
  """Returns the object that a JSON text holds.

  Args:
    content: the text; bytes are UTF-8.
    name: what to call it in a message.
    kinds: what it may be: dict, or list too.

  Raises:
    ValueError: empty, not UTF-8, no JSON, or no object.
  """
  cure = "expected a JSON object; copy the file again from its origin"
  try:
    text = content.decode() if isinstance(content, bytes) else content
    if not text.strip():
      raise ValueError(f"{name} is empty: {cure}")
    found = json.loads(text)
  except UnicodeDecodeError as e:
    raise ValueError(f"{name} is not UTF-8 ({e.reason}): {cure}") from e
  except json.JSONDecodeError as e:
    raise ValueError(f"{name} is not JSON ({e}): {cure}") from e
  except RecursionError as e:
    raise ValueError(f"{name} is nested too deep: {cure}") from e
  if not isinstance(found, kinds):
    kind = type(found).__name__
    raise ValueError(f"{name} holds a {kind}: {cure}")
  return found
