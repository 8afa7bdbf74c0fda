"""One frozen dataclass is the config: its flags and its JSON are derived.

A config written once in Python gets a command line and a stored form without
a second list of names and defaults. Leaves are bool, int, float, str, paths
(`FilePath`), enum members, tuples of those, and `Optional` of any; sections
are dataclasses.
"""

import dataclasses
import difflib
import enum
import hashlib
import json
import math
import os
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from absl import flags

# Flags belong to the program that defines them, not to this module: `--help`
# then lists them with the program's own.
flags.disclaim_key_flags()

Config = TypeVar("Config")
# Text that names a file or folder. No shell expands the tilde of `--out=~/x`,
# so whatever reads such a text from a command line does.
FilePath = typing.NewType("FilePath", str)
_SCALARS = (bool, int, float, str, FilePath)
_NON_FINITE = ("nan", "inf", "-inf")
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def setting(text: str, default: Any) -> Any:
  """Returns a field with a default and the text of its flag."""
  return dataclasses.field(default=default, metadata={"help": text})


def define_flags(
  config: Any, flag_values: flags.FlagValues = flags.FLAGS, prefix: str = ""
) -> None:
  """Defines one flag per leaf of `config`, with its value as the default.

  A leaf `depth` of section `model` becomes `--model.depth`. Tuples are comma
  lists, `None` of an Optional is `none`, an enum member is its name in small
  letters (any case is read).

  Args:
    config: instance of a frozen dataclass; sections are nested instances.
    flag_values: where to define them.
    prefix: put before every name, with a dot.

  Raises:
    ValueError: a leaf has a type that no flag can hold, or a default that its
      own text does not give back.
  """
  for name, field, annotation, value in _leaves(config, prefix):
    text = _format(value)
    if _read(annotation, text) != value:
      raise ValueError(
        f"{name}: the default {value!r} is written as {text!r} on a command "
        "line, which reads back differently; choose a default without commas, "
        'outer blanks, NaN, or the word "none" in an Optional string'
      )
    shown = field.metadata.get("help", _describe(annotation))
    if annotation is bool:
      flags.DEFINE_boolean(name, value, shown, flag_values)
      continue
    flags.DEFINE(
      _Parser(name, annotation), name, value, shown, flag_values, _Serializer()
    )


def define_path(
  name: str,
  default: str | None,
  text: str,
  flag_values: flags.FlagValues = flags.FLAGS,
  *,
  required: bool = False,
) -> flags.FlagHolder:
  """Defines a flag that names a file or folder; `~` is the home folder."""
  parser = _Parser(name, FilePath)
  return flags.DEFINE(
    parser, name, default, text, flag_values, required=required
  )


def define_paths(
  name: str, text: str, flag_values: flags.FlagValues = flags.FLAGS
) -> flags.FlagHolder:
  """Defines a flag that may be repeated, each time with one such name."""
  parser, serializer = _Parser(name, FilePath), flags.ArgumentSerializer()
  return flags.DEFINE_multi(parser, serializer, name, [], text, flag_values)


def define_alias(
  short: str, name: str, flag_values: flags.FlagValues = flags.FLAGS
) -> None:
  """Defines another name of a flag, which help shows with the same text."""
  flags.DEFINE_alias(short, name, flag_values)
  flag_values[short].help = flag_values[name].help


def expand(path: str) -> str:
  """Returns a path with `~` and `~name` as the home folders they stand for.

  Raises:
    ValueError: nobody of that name has a home here.
  """
  found = os.path.expanduser(path)
  if found.startswith("~"):
    raise ValueError(
      f"{path!r} begins with the home folder of nobody here; write ./{path}"
      " for a folder of that name"
    )
  return found


def from_flags(
  config: Config,
  flag_values: flags.FlagValues = flags.FLAGS,
  prefix: str = "",
) -> Config:
  """Returns `config` with every leaf replaced by its flag's value."""
  changes = {}
  for field in _fields(config):
    name, value = _join(prefix, field.name), getattr(config, field.name)
    changes[field.name] = (
      from_flags(value, flag_values, name)
      if dataclasses.is_dataclass(value)
      else flag_values[name].value
    )
  return dataclasses.replace(config, **changes)


def to_json(config: Any) -> dict[str, Any]:
  """Returns `config` as nested dicts of what JSON can hold.

  Tuples become lists, enum members their names, non-finite floats the strings
  "nan", "inf", "-inf"; an int in a float field becomes a float, so that equal
  configs have equal text.
  """
  result: dict[str, Any] = {}
  for name, _, _, value in _leaves(config, ""):
    *sections, leaf = name.split(".")
    place = result
    for section in sections:
      place = place.setdefault(section, {})
    place[leaf] = _plain(value)
  return result


def from_json(cls: type[Config], values: Mapping[str, Any]) -> Config:
  """Returns the `cls` that `to_json` wrote; absent fields keep defaults.

  Raises:
    ValueError: an unknown field (with the nearest known name), a missing field
      without default, or a value of the wrong type.
  """
  return _from_json(cls, values, "")


def digest(config: Any) -> str:
  """Returns the SHA-256 (hex) of the config's canonical JSON."""
  return digest_of(to_json(config))


def digest_of(values: Mapping[str, Any]) -> str:
  """Returns the digest of what `to_json` returned, changed or not."""
  text = json.dumps(
    values, sort_keys=True, separators=(",", ":"), allow_nan=False
  )
  return hashlib.sha256(text.encode()).hexdigest()


class _Parser(flags.ArgumentParser):
  """Reads one leaf from a command line; absl passes defaults as values."""

  def __init__(self, name: str, annotation: Any):
    super().__init__()
    self._name, self._annotation = name, annotation

  def parse(self, argument: Any) -> Any:
    if isinstance(argument, str):
      argument = _read(self._annotation, argument)
    return _checked(self._annotation, argument, self._name)

  def flag_type(self) -> str:
    return _describe(self._annotation)


class _Serializer(flags.ArgumentSerializer):
  def serialize(self, value: Any) -> str:
    return _format(value)


def _join(prefix: str, name: str) -> str:
  return f"{prefix}.{name}" if prefix else name


def _fields(config: Any) -> list[dataclasses.Field]:
  # What does not make two configs differ is no setting.
  fields = dataclasses.fields(config)
  return [field for field in fields if field.init and field.compare]


def _leaves(
  config: Any, prefix: str
) -> Iterator[tuple[str, dataclasses.Field, Any, Any]]:
  """Yields (flag name, field, annotation, checked value) depth first."""
  if not type(config).__dataclass_params__.frozen:
    raise ValueError(
      f"{type(config).__name__} is not frozen; declare it with "
      "@dataclasses.dataclass(frozen=True)"
    )
  hints = typing.get_type_hints(type(config))
  for field in _fields(config):
    name, value = _join(prefix, field.name), getattr(config, field.name)
    if dataclasses.is_dataclass(value):
      yield from _leaves(value, name)
    else:
      annotation = hints[field.name]
      _require_leaf(annotation, name)
      yield name, field, annotation, _checked(annotation, value, name)


def _optional(annotation: Any) -> Any:
  """Returns T for `T | None`, and None for every other annotation."""
  if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
    return None
  arms = typing.get_args(annotation)
  rest = [arm for arm in arms if arm is not type(None)]
  return rest[0] if len(rest) == 1 and len(arms) == 2 else None


def _is_enum(annotation: Any) -> bool:
  return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def _elements(annotation: Any, count: int) -> tuple[Any, ...] | None:
  """Returns the element types of a tuple of `count`, None if it cannot be."""
  arms = typing.get_args(annotation)
  if len(arms) == 2 and arms[1] is Ellipsis:
    return (arms[0],) * count
  return arms if len(arms) == count else None


def _require_leaf(annotation: Any, name: str) -> None:
  """Raises unless `annotation` is one; also where its value is None or ()."""
  inner = _optional(annotation) or annotation
  arms = [inner]
  if typing.get_origin(inner) is tuple:
    arms = [arm for arm in typing.get_args(inner) if arm is not Ellipsis]
  if not all(arm in _SCALARS or _is_enum(arm) for arm in arms):
    raise ValueError(
      f"{name}: a config field cannot be {_describe(annotation)}; expected "
      "bool, int, float, str, an enum, a tuple of those, an Optional of any, "
      "or a nested frozen dataclass"
    )


def _describe(annotation: Any) -> str:
  inner = _optional(annotation)
  if inner is not None:
    return f"{_describe(inner)} or none"
  if _is_enum(annotation):
    return "one of " + ", ".join(map(str.lower, annotation.__members__))
  if annotation is FilePath:
    return "path"
  if isinstance(annotation, type) and not typing.get_args(annotation):
    return annotation.__name__
  return str(annotation)


def _format(value: Any) -> str:
  """Returns the command-line text of a leaf."""
  if isinstance(value, enum.Enum):
    return value.name.lower()
  value = value if isinstance(value, tuple) else _plain(value)
  if isinstance(value, tuple):
    return ",".join(map(_format, value))
  return str(value) if type(value) in (int, float, str) else str(value).lower()


def _read(annotation: Any, text: str) -> Any:
  """Returns the leaf that `text` writes; text that writes none stays text."""
  inner, word = _optional(annotation), text.strip()
  if inner is not None:
    return None if word.lower() == "none" else _read(inner, text)
  if typing.get_origin(annotation) is tuple:
    parts = [part.strip() for part in text.split(",")] if word else []
    arms = _elements(annotation, len(parts))
    return text if arms is None else tuple(map(_read, arms, parts))
  if annotation is bool:
    return _BOOLS.get(word.lower(), text)
  if annotation in (int, float):
    try:
      return annotation(text)
    except ValueError:
      return text
  if annotation is FilePath:
    return expand(text)
  return _member(annotation, word, text) if _is_enum(annotation) else text


def _member(kind: type[enum.Enum], word: str, otherwise: Any) -> Any:
  """Returns the member of that name in any case."""
  known = {name.lower(): member for name, member in kind.__members__.items()}
  return known.get(word.lower(), otherwise)


def _plain(value: Any) -> Any:
  """Returns a leaf as what JSON can hold."""
  if isinstance(value, tuple):
    return [_plain(element) for element in value]
  if isinstance(value, enum.Enum):
    return value.name
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value


def _revived(annotation: Any, value: Any) -> Any:
  """Returns the leaf that `_plain` stored; what it cannot be stays as is."""
  inner = _optional(annotation)
  if inner is not None:
    return _revived(inner, value)
  if typing.get_origin(annotation) is tuple and isinstance(value, list):
    arms = _elements(annotation, len(value))
    return value if arms is None else tuple(map(_revived, arms, value))
  if _is_enum(annotation) and isinstance(value, str):
    return _member(annotation, value, value)
  if annotation is float and value in _NON_FINITE:
    return float(value)
  return value


def _wrong(name: str, value: Any, annotation: Any) -> ValueError:
  return ValueError(
    f"{name}: got {value!r} ({type(value).__name__}), expected "
    f"{_describe(annotation)}"
  )


def _checked(annotation: Any, value: Any, name: str) -> Any:
  """Returns `value` as `annotation`; an int may become a float, no more."""
  inner = _optional(annotation)
  if inner is not None:
    return None if value is None else _checked(inner, value, name)
  if typing.get_origin(annotation) is tuple:
    fits = isinstance(value, tuple)
    arms = _elements(annotation, len(value)) if fits else None
    if arms is None:
      raise _wrong(name, value, annotation)
    return tuple(
      _checked(arm, element, f"{name}[{index}]")
      for index, (arm, element) in enumerate(zip(arms, value, strict=True))
    )
  if annotation is float and type(value) is int:
    return float(value)
  kind = str if annotation is FilePath else annotation
  # A bool is an int to Python, and is none to a reader of a config.
  if not isinstance(value, kind) or (
    isinstance(value, bool) and annotation is not bool
  ):
    raise _wrong(name, value, annotation)
  return value


def _from_json(cls: Any, values: Any, prefix: str) -> Any:
  if not isinstance(values, Mapping):
    raise _wrong(prefix or cls.__name__, values, dict)
  hints = typing.get_type_hints(cls)
  known = {field.name: field for field in _fields(cls)}
  for key in values:
    if key not in known:
      near = difflib.get_close_matches(str(key), known, n=1)
      hint = f"; did you mean {near[0]!r}?" if near else "."
      raise ValueError(
        f"{_join(prefix, str(key))} is no field of {cls.__name__}{hint} "
        f"Expected only: {', '.join(known)}"
      )
  arguments = {}
  for key, field in known.items():
    name = _join(prefix, key)
    if key not in values:
      if (
        field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
      ):
        raise ValueError(
          f"{name}: missing, and {cls.__name__} has no default for it"
        )
    elif dataclasses.is_dataclass(hints[key]):
      arguments[key] = _from_json(hints[key], values[key], name)
    else:
      _require_leaf(hints[key], name)
      value = _revived(hints[key], values[key])
      arguments[key] = _checked(hints[key], value, name)
  return cls(**arguments)
