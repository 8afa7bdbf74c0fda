"""`--json`: a result as a script reads it, in the place of words or beside."""

import dataclasses
import enum
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags

from jaxvlm import config as configs
from jaxvlm import wholefile

flags.disclaim_key_flags()


def define_json() -> flags.FlagHolder[str]:
  """Defines the flag."""
  return configs.define_path(
    "json",
    "",
    "file for the result as JSON; -: standard output, in the place of words",
  )


def in_words(flag: flags.FlagHolder[str]) -> bool:
  """Returns whether standard output is for people."""
  return flag.value != "-"


def write(flag: flags.FlagHolder[str], result: Any) -> None:
  """Writes the result where the flag says, if it says so.

  Args:
    flag: of `define_json`.
    result: named tuples, dataclasses, mappings, sequences, arrays,
      enumerations, numbers; NaN and infinities, which JSON has not, become
      null.
  """
  if not flag.value:
    return
  text = json.dumps(plain(result), indent=1, ensure_ascii=False)
  if flag.value == "-":
    print(text)
    return
  path = pathlib.Path(flag.value)
  path.parent.mkdir(parents=True, exist_ok=True)
  wholefile.write_text(path, text + "\n")


def plain(value: Any) -> Any:
  """Returns what JSON can hold of a result; enumerations by their values."""
  if hasattr(value, "_asdict"):
    value = value._asdict()
  if dataclasses.is_dataclass(value):
    names = [field.name for field in dataclasses.fields(value)]
    value = {name: getattr(value, name) for name in names}
  if isinstance(value, Mapping):
    return {str(name): plain(part) for name, part in value.items()}
  if isinstance(value, np.ndarray | np.generic):
    value = value.tolist()
  if isinstance(value, list | tuple):
    return [plain(part) for part in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value.value if isinstance(value, enum.Enum) else value
