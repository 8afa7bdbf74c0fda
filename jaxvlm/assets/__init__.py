"""The models that ship with the package."""

import pathlib

_HERE = pathlib.Path(__file__).parent


def folder(name: str) -> pathlib.Path:
  """Returns the Hugging Face folder of a shipped model.

  Raises:
    FileNotFoundError: no such model.
  """
  path = _HERE / name
  if not (path / "config.json").is_file():
    raise FileNotFoundError(
      f"{name!r} does not ship with jaxvlm, expected one of"
      f" {sorted(p.name for p in _HERE.iterdir() if p.is_dir())};"
      " `make nano` trains the small models from nothing"
    )
  return path
