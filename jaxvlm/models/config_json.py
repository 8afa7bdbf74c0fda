"""Reading config.json: what all families do alike.

A field that decides what is computed must be there and of its type; a setting
that is not understood is refused; what decides nothing is named in a warning,
kept, and written again.
"""

import dataclasses
import logging
import pathlib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from jaxvlm import jsonfile

ACTIVATION = "silu"
TIED = "tie_word_embeddings"
_NAME = "config.json"
# Fields of published files that do not change what is computed here:
# book-keeping, training-only or serving-only.
INERT = frozenset(
  "architectures model_type transformers_version torch_dtype dtype use_cache"
  " attention_dropout _name_or_path output_attentions output_hidden_states"
  " return_dict chunk_size_feed_forward is_encoder_decoder id2label label2id"
  " problem_type _attn_implementation_autoset pad_token_id hidden_act"
  " text_config rope_scaling rope_parameters".split()
)


def load(folder: str | pathlib.Path) -> dict[str, Any]:
  """Returns the content of a folder's config.json.

  Raises:
    FileNotFoundError: no such file.
    ValueError: no JSON object.
  """
  file = pathlib.Path(folder) / _NAME
  if not file.is_file():
    raise FileNotFoundError(
      f"{file} does not exist: expected a Hugging Face folder of a model"
      " (config.json, *.safetensors, tokenizer.json)"
    )
  return jsonfile.read(file)


def read(
  folder: str | pathlib.Path, parse: Callable[[Mapping[str, Any], str], Any]
) -> Any:
  """Returns what `parse(content, name of the file)` makes of a folder's."""
  return parse(load(folder), str(pathlib.Path(folder) / _NAME))


def section(raw: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
  """Returns an object inside of config.json; empty if it is absent or null."""
  found = raw.get(name) or {}
  if not isinstance(found, Mapping):
    raise ValueError(f"{where} has {name} {found!r}, expected an object")
  return dict(found)


def check_model_type(
  raw: Mapping[str, Any], model_type: str, where: str
) -> None:
  found = raw.get("model_type", model_type)
  if found != model_type:
    raise ValueError(
      f"{where} has model_type {found!r}, expected {model_type!r}: read the"
      " folder with jaxvlm.models.read_config, which takes every family"
    )


def check_plain(raw: Mapping[str, Any], where: str) -> None:
  """Raises ValueError for weights that are stored quantized."""
  if raw.get("quantization_config") is not None:
    raise ValueError(
      f"{where} has quantization_config {raw['quantization_config']},"
      " expected none: load a folder in bfloat16 or float32"
    )


def check_activation(
  part: Mapping[str, Any], name: str, where: str, expected: str = ACTIVATION
) -> None:
  act = part.get("hidden_act", expected)
  if act != expected:
    raise ValueError(
      f"{where} has {name} hidden_act {act!r}, expected {expected!r}"
    )


def check_tower_rope(
  vision: Mapping[str, Any], where: str, theta: float
) -> None:
  """Raises ValueError for 2-D positions of another base."""
  found = (vision.get("rope_parameters") or {}).get("rope_theta", theta)
  if found != theta:
    raise ValueError(
      f"{where} vision_config has rope_theta {found}, expected {theta:g}: no"
      " other base is supported in the tower"
    )


def check_full_attention(text: Mapping[str, Any], where: str) -> None:
  """Raises ValueError for a decoder whose layers see a window only."""
  sliding = set(text.get("layer_types") or ()) - {"full_attention"}
  if text.get("use_sliding_window") or sliding:
    raise ValueError(
      f"{where} has use_sliding_window {text.get('use_sliding_window')} and"
      f" layer_types {sorted(sliding)}; expected false and none but"
      " 'full_attention': sliding windows in the decoder are not supported"
    )


def rotary(
  text: Mapping[str, Any], where: str, known: Mapping[str, Collection[str]]
) -> dict[str, Any]:
  """Returns the decoder's rotary settings once all of them are understood.

  As transformers does: `rope_scaling` wins over `rope_parameters`. The kind
  stands under `rope_type`, in older files under `type`.

  Args:
    text: the decoder's fields.
    where: what to call them.
    known: kind -> names of its settings.

  Raises:
    ValueError: a kind or a setting that is not known.
  """
  place = "rope_scaling" if text.get("rope_scaling") else "rope_parameters"
  rope = section(text, place, where)
  kinds = {rope[key] for key in ("type", "rope_type") if key in rope}
  if not kinds <= known.keys():
    raise ValueError(
      f"{where} has {place} {rope}, expected type"
      f" {' or '.join(map(repr, known))}: long-context scaling"
      f" {'of another kind ' if len(known) > 2 else ''}is not supported"
    )
  # A factor without its rule may be somebody's long-context setting: other
  # programs would place tokens by it.
  fields = {"type", "rope_type", "rope_theta"}
  fields.update(*(known[kind] for kind in kinds or {"default"}))
  unknown = sorted(rope.keys() - fields)
  if rope.get("partial_rotary_factor") == 1:  # written by transformers
    unknown.remove("partial_rotary_factor")
  if unknown:
    raise ValueError(
      f"{where} has {place} {rope} with unknown {unknown}, expected a"
      f" subset of {sorted(fields)}; remove them if the weights were trained"
      " without"
    )
  return rope


def warn_of_unknown(unknown: Collection[str], where: str) -> None:
  if unknown:
    logging.warning(
      "%s has unknown field(s) %s: they decide nothing here, nor in"
      " transformers; an export keeps them",
      where,
      sorted(unknown),
    )


def arguments(
  cls: type,
  names: Collection[str],
  raw: Mapping[str, Any],
  where: str,
  *,
  optional: Collection[str],
) -> dict[str, Any]:
  """Returns the constructor arguments of a dataclass found in config.json.

  Args:
    cls: a dataclass whose fields have the names and types of the file's.
    names: which of them.
    raw: where they are looked for.
    where: what to call it.
    optional: those that may be left out.

  Raises:
    ValueError: a field that is absent or of another type.
  """
  missing = sorted(set(names) - raw.keys() - set(optional))
  if missing:
    raise ValueError(
      f"{where} lacks field(s) {missing}, which decide what is computed; copy"
      " the config.json that belongs to the weights"
    )
  kinds = {field.name: field.type for field in dataclasses.fields(cls)}
  return {
    name: _checked(name, raw[name], kinds[name], where)
    for name in names
    if name in raw
  }


def _checked(name: str, value: Any, kind: Any, where: str) -> Any:
  """Returns `value` once it is of the type of its field."""
  if isinstance(kind, types.UnionType):  # int | None: a token, or none
    if value is None:
      return None
    kind, _ = typing.get_args(kind)
    if isinstance(value, list) and value:  # of several ends, the first
      value = value[0]
  kind = typing.get_origin(kind) or kind
  if kind is tuple:
    fits = isinstance(value, list | tuple) and all(
      type(x) is int for x in value
    )
  elif kind is float:
    fits = type(value) in (int, float)
  else:
    fits = type(value) is kind
  if not fits:
    raise ValueError(
      f"{where} has {name} {value!r}, expected"
      f" {'a list of int' if kind is tuple else kind.__name__}; copy the"
      " config.json that belongs to the weights"
    )
  return tuple(value) if kind is tuple else value


def fields_of(cls: type) -> list[str]:
  """Returns the fields that config.json has under the same names.

  All of a dataclass but its `vision` and what is no part of its equality.
  """
  names = (field.name for field in dataclasses.fields(cls) if field.compare)
  return [name for name in names if name != "vision"]


def plain(part: Any) -> dict[str, Any]:
  """Returns the fields of a configuration or its tower as JSON has them."""

  def one(value):
    return list(value) if isinstance(value, tuple) else value

  return {name: one(getattr(part, name)) for name in fields_of(type(part))}


def rewritten(
  raw: dict[str, Any], before: Any, after: Any, outer: Collection[str]
) -> dict[str, Any]:
  """Returns `raw`, as it was read but for what has changed since.

  Args:
    raw: content of config.json, of a model with a tower; is changed.
    before: the configuration that it says.
    after: the one that it is to say.
    outer: fields that stand at the top level even where there is a
      text_config.
  """
  text = raw.get("text_config") or raw
  for name, value in _changed(before, after).items():
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if name == TIED:  # either of two places counts, so both must say it
      raw[name] = value
      if name in text:
        text[name] = value
    elif name == "mrope_section" or name in rope:
      rope[name] = value
    else:
      (raw if name in outer else text)[name] = value
  raw["vision_config"] |= _changed(before.vision, after.vision)
  return raw


def _changed(before: Any, after: Any) -> dict[str, Any]:
  old = plain(before)
  return {k: x for k, x in plain(after).items() if x != old[k]}


# Whether a rule holds, what was found, what was expected or is to be done.
Rule = tuple[bool, str, str]


def check(name: str, rules: Iterable[Rule]) -> None:
  """Raises ValueError for the first rule of a configuration that is broken.

  Args:
    name: of the family, as people write it.
    rules: drawn one by one, so that a later one may rely on an earlier one.
  """
  for holds, found, expected in rules:
    if not holds:
      raise ValueError(f"{name} config: {found}; {expected}")


def heads_rule(config: Any) -> Rule:
  heads, kv = config.num_attention_heads, config.num_key_value_heads
  return (
    heads > 0 and kv > 0 and heads % kv == 0,
    f"num_attention_heads {heads}, num_key_value_heads {kv}",
    "expected positive numbers, the first a multiple of the second",
  )


def mrope_rule(config: Any) -> Rule:
  section, d = config.mrope_section, config.head_dim
  return (
    len(section) == 3 and 2 * sum(section) == d > 0,
    f"mrope_section {section} for heads of {d}",
    f"expected three numbers that add up to head_dim / 2 = {d / 2:g}",
  )


def tower_rules(config: Any) -> Iterator[Rule]:
  """Yields what a tower must be to stand before the common decoder."""
  v = config.vision
  yield (
    v.num_heads > 0 and v.hidden_size % (4 * v.num_heads) == 0,
    f"vision hidden_size {v.hidden_size} over {v.num_heads} heads leaves no"
    " multiple of 4 per head",
    "2-D rotary positions need one",
  )
  yield (
    v.out_hidden_size == config.hidden_size,
    f"vision out_hidden_size {v.out_hidden_size} differs from hidden_size"
    f" {config.hidden_size}",
    "the merger must emit the decoder's width",
  )
