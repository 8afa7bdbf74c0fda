"""Qwen2.5-VL configuration: the official config.json as frozen dataclasses.

What is read stands in the dataclasses; what is not read is kept as it stood
and written again, so that another reader finds it in an exported folder.
"""

import dataclasses
import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxvlm import jsonfile
from jaxvlm.data.layout import VisionLayout

# Fields of published config.json files that do not change what is computed
# here: book-keeping, training-only, serving-only, or about videos. Others that
# are unknown are named in a warning.
_INERT = frozenset(
  "architectures model_type transformers_version torch_dtype dtype use_cache"
  " attention_dropout max_window_layers use_sliding_window sliding_window"
  " layer_types vision_token_id spatial_patch_size in_channels"
  " in_chans tokens_per_second _name_or_path output_attentions"
  " output_hidden_states return_dict chunk_size_feed_forward"
  " is_encoder_decoder id2label label2id problem_type text_config"
  " vision_config rope_scaling rope_parameters"
  " _attn_implementation_autoset pad_token_id hidden_act".split()
)
# Fields that a config.json may leave out; any other gap would silently be
# filled with the 3B model's value.
_OPTIONAL = frozenset(
  "max_position_embeddings initializer_range image_token_id video_token_id"
  " vision_start_token_id vision_end_token_id bos_token_id"
  " eos_token_id".split()
)
# Read at the top level in the nested form too: some versions of transformers
# left nulls of these names in text_config.
_OUTER = frozenset(
  "image_token_id video_token_id vision_start_token_id"
  " vision_end_token_id".split()
)
_MAY_BE_NULL = frozenset(["bos_token_id", "eos_token_id"])
_ROPE = frozenset(["type", "rope_type", "rope_theta", "mrope_section"])
_TOWER_THETA = 1e4  # of the 2-D positions; transformers' "axial" default
_TIED = "tie_word_embeddings"
_REQUIRED_ACT = "silu"


@dataclasses.dataclass(frozen=True)
class VisionConfig:
  """The vision tower; names as in config.json."""

  depth: int = 32
  hidden_size: int = 1280
  intermediate_size: int = 3420
  num_heads: int = 16
  out_hidden_size: int = 2048
  patch_size: int = 14
  spatial_merge_size: int = 2
  temporal_patch_size: int = 2
  window_size: int = 112
  fullatt_block_indexes: tuple[int, ...] = (7, 15, 23, 31)
  initializer_range: float = 0.02


@dataclasses.dataclass(frozen=True)
class Config:
  """The whole model: decoder fields at the top level, the tower in `vision`.

  Attributes:
    mrope_section: frequencies per axis (time, height, width); they add up to
      half a head.
    vision: the tower.
    source: text of the config.json that this was read from, or nothing. It
      keeps what is not read here, travels through `dataclasses.replace`, and
      is no part of what makes two configs equal.
  """

  vocab_size: int = 151936
  hidden_size: int = 2048
  intermediate_size: int = 11008
  num_hidden_layers: int = 36
  num_attention_heads: int = 16
  num_key_value_heads: int = 2
  rms_norm_eps: float = 1e-6
  rope_theta: float = 1e6
  mrope_section: tuple[int, int, int] = (16, 24, 24)
  max_position_embeddings: int = 128000
  initializer_range: float = 0.02
  tie_word_embeddings: bool = True
  image_token_id: int = 151655
  video_token_id: int = 151656
  vision_start_token_id: int = 151652
  vision_end_token_id: int = 151653
  # Kept for transformers; we take the ends of an answer from the tokenizer and
  # generation_config.json. Of several, the first.
  bos_token_id: int | None = 151643
  eos_token_id: int | None = 151645
  vision: VisionConfig = dataclasses.field(default_factory=VisionConfig)
  source: str = dataclasses.field(default="", repr=False, compare=False)

  def __post_init__(self):
    def need(ok: bool, what: str, fix: str):
      if not ok:
        raise ValueError(f"Qwen2.5-VL config: {what}; {fix}")

    heads, kv = self.num_attention_heads, self.num_key_value_heads
    need(
      heads > 0 and kv > 0 and self.vision.num_heads > 0,
      f"num_attention_heads {heads}, num_key_value_heads {kv}, vision"
      f" num_heads {self.vision.num_heads}",
      "expected positive numbers",
    )
    need(
      self.hidden_size % heads == 0 and self.head_dim % 2 == 0,
      f"hidden_size {self.hidden_size} does not split into {heads} heads of"
      " even width",
      "change hidden_size or num_attention_heads",
    )
    need(
      heads % kv == 0,
      f"num_attention_heads {heads} is not a multiple of"
      f" num_key_value_heads {kv}",
      "every kv head serves the same number of query heads",
    )
    need(
      len(self.mrope_section) == 3
      and 2 * sum(self.mrope_section) == self.head_dim,
      f"mrope_section {self.mrope_section} adds up to"
      f" {sum(self.mrope_section)}",
      f"expected three numbers that add up to head_dim / 2 ="
      f" {self.head_dim // 2}",
    )
    need(
      self.vision.hidden_size % (4 * self.vision.num_heads) == 0,
      f"vision hidden_size {self.vision.hidden_size} over"
      f" {self.vision.num_heads} heads leaves no multiple of 4 per head",
      "2-D rotary positions need one",
    )
    need(
      self.vision.out_hidden_size == self.hidden_size,
      f"vision out_hidden_size {self.vision.out_hidden_size} differs from"
      f" hidden_size {self.hidden_size}",
      "the merger must emit the decoder's width",
    )

  @property
  def head_dim(self) -> int:
    return self.hidden_size // self.num_attention_heads

  @property
  def layout(self) -> VisionLayout:
    """The host's view of the tower (`jaxvlm.data.layout`)."""
    v = self.vision
    return VisionLayout(
      patch=v.patch_size,
      merge=v.spatial_merge_size,
      window=v.window_size,
      temporal_patch=v.temporal_patch_size,
    )

  @classmethod
  def from_folder(cls, path: str | pathlib.Path) -> "Config":
    """Reads `config.json` of a Hugging Face folder."""
    file = pathlib.Path(path) / "config.json"
    if not file.is_file():
      raise FileNotFoundError(
        f"{file} does not exist: expected a Hugging Face folder of a"
        " Qwen2.5-VL model (config.json, *.safetensors, tokenizer.json)"
      )
    return cls.from_dict(jsonfile.read(file), str(file))

  @classmethod
  def from_dict(
    cls, raw: Mapping[str, Any], where: str = "config.json"
  ) -> "Config":
    """Reads the flat (official) or nested (transformers 5) form.

    As transformers does: in the nested form the decoder is what text_config
    says, `rope_scaling` wins over `rope_parameters`, and fields that no
    Qwen2.5-VL has decide nothing. These are named in a warning.

    Args:
      raw: the file's content.
      where: what to call it in a message.

    Raises:
      ValueError: another architecture, a setting that is not supported, a
        field that is absent or of the wrong type.
    """
    config, unknown = _read(raw, where)
    if unknown:
      logging.warning(
        "%s has unknown field(s) %s: they decide nothing here, nor in"
        " transformers; an export keeps them",
        where,
        unknown,
      )
    return config

  def to_dict(self) -> dict[str, Any]:
    """Returns config.json: as it was read, but for what has changed since.

    The official flat form, if it was not read from a file.
    """
    if not self.source:
      return self._official()
    raw = json.loads(self.source)
    before, _ = _read(raw, "config.json")
    text = raw.get("text_config") or raw
    for name in _names(Config):
      value = getattr(self, name)
      if value != getattr(before, name):
        _write(raw, text, name, _plain(value))
    for name in _names(VisionConfig):
      value = getattr(self.vision, name)
      if value != getattr(before.vision, name):
        raw["vision_config"][name] = _plain(value)
    return raw

  def _official(self) -> dict[str, Any]:
    fields = {name: _plain(getattr(self, name)) for name in _names(Config)}
    section = fields.pop("mrope_section")
    tower = self.vision
    return {
      "architectures": ["Qwen2_5_VLForConditionalGeneration"],
      "model_type": "qwen2_5_vl",
      "hidden_act": _REQUIRED_ACT,
      "use_sliding_window": False,
      **fields,
      "rope_scaling": {"type": "mrope", "mrope_section": section},
      "vision_config": {
        "model_type": "qwen2_5_vl",
        "hidden_act": _REQUIRED_ACT,
        "in_channels": 3,
        **{name: _plain(getattr(tower, name)) for name in _names(VisionConfig)},
        # Of the official files; transformers would fill in 4.
        "tokens_per_second": 2,
      },
    }


def _read(raw: Mapping[str, Any], where: str) -> tuple[Config, list[str]]:
  """Returns a config and the names of fields that are not known."""
  if raw.get("model_type", "qwen2_5_vl") != "qwen2_5_vl":
    raise ValueError(
      f"{where} has model_type {raw['model_type']!r}, expected"
      " 'qwen2_5_vl': only the Qwen2.5-VL family is supported"
    )
  if raw.get("quantization_config") is not None:
    raise ValueError(
      f"{where} has quantization_config {raw['quantization_config']},"
      " expected none: load a folder in bfloat16 or float32"
    )
  text, inside = dict(raw), where
  inner = _section(raw, "text_config", where)
  if inner:
    text = {k: x for k, x in inner.items() if k not in _OUTER}
    text |= {k: raw[k] for k in _OUTER & raw.keys()}
    inside = f"{where} text_config"
    # Written in both places; either counts.
    text[_TIED] = bool(raw.get(_TIED) or inner.get(_TIED))
  text.pop("mrope_section", None)  # means nothing outside of `rope`
  rope = _rope(text, inside)
  text |= {k: rope[k] for k in ("rope_theta", "mrope_section") if k in rope}
  sliding = set(text.get("layer_types") or ()) - {"full_attention"}
  if text.get("use_sliding_window") or sliding:
    raise ValueError(
      f"{where} has use_sliding_window {text.get('use_sliding_window')} and"
      f" layer_types {sorted(sliding)}; expected false and none but"
      " 'full_attention': sliding windows in the decoder are not supported"
    )
  vision = _section(raw, "vision_config", where)
  theta = (vision.get("rope_parameters") or {}).get("rope_theta", _TOWER_THETA)
  if theta != _TOWER_THETA:
    raise ValueError(
      f"{where} vision_config has rope_theta {theta}, expected"
      f" {_TOWER_THETA:g}: no other base is supported in the tower"
    )
  for name, part in (("text", text), ("vision", vision)):
    act = part.get("hidden_act", _REQUIRED_ACT)
    if act != _REQUIRED_ACT:
      raise ValueError(
        f"{where} has {name} hidden_act {act!r}, expected {_REQUIRED_ACT!r}"
      )
  tower = f"{where} vision_config"
  config = Config(
    **_known(Config, text, inside),
    vision=VisionConfig(**_known(VisionConfig, vision, tower)),
    source=json.dumps(raw),
  )
  known = _INERT | set(_names(Config))
  unknown = sorted((raw.keys() | text.keys()) - known)
  known = _INERT | set(_names(VisionConfig))
  return config, unknown + [
    f"vision_config.{name}" for name in sorted(vision.keys() - known)
  ]


def _section(raw: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
  found = raw.get(name) or {}
  if not isinstance(found, Mapping):
    raise ValueError(f"{where} has {name} {found!r}, expected an object")
  return dict(found)


def _rope(text: Mapping[str, Any], where: str) -> dict[str, Any]:
  """Returns the decoder's rotary settings once all of them are understood."""
  place = "rope_scaling" if text.get("rope_scaling") else "rope_parameters"
  rope = _section(text, place, where)
  kinds = {rope.get("type", "mrope"), rope.get("rope_type", "default")}
  if not kinds <= {"mrope", "default"}:
    raise ValueError(
      f"{where} has {place} {rope}, expected type 'mrope' or"
      " 'default': long-context scaling is not supported"
    )
  # A factor without its rule may be somebody's long-context setting: other
  # programs would place tokens by it.
  unknown = sorted(rope.keys() - _ROPE)
  if rope.get("partial_rotary_factor") == 1:  # written by transformers
    unknown.remove("partial_rotary_factor")
  if unknown:
    raise ValueError(
      f"{where} has {place} {rope} with unknown {unknown}, expected a"
      f" subset of {sorted(_ROPE)}; remove them if the weights were trained"
      " without"
    )
  return rope


def _names(cls: type) -> list[str]:
  """Returns the fields that config.json has under the same names."""
  names = (field.name for field in dataclasses.fields(cls) if field.compare)
  return [name for name in names if name != "vision"]


def _plain(value: Any) -> Any:
  return list(value) if isinstance(value, tuple) else value


def _write(
  raw: dict[str, Any], text: dict[str, Any], name: str, value: Any
) -> None:
  """Puts a decoder's field where `_read` finds it."""
  rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
  if name == _TIED:  # either of two places counts, so both must say it
    raw[name] = value
    if name in text:
      text[name] = value
  elif name == "mrope_section" or name in rope:
    rope[name] = value
  else:
    (raw if name in _OUTER else text)[name] = value


def _known(cls: type, raw: Mapping[str, Any], where: str) -> dict[str, Any]:
  """Returns the constructor arguments of `cls` found in `raw`."""
  names = _names(cls)
  missing = sorted(set(names) - raw.keys() - _OPTIONAL)
  if missing:
    raise ValueError(
      f"{where} lacks field(s) {missing}, which decide what is computed; copy"
      " the config.json that belongs to the weights"
    )
  defaults = cls()
  return {
    name: _checked(name, raw[name], getattr(defaults, name), where)
    for name in names
    if name in raw
  }


def _checked(name: str, value: Any, default: Any, where: str) -> Any:
  """Returns `value` once it is of the type that `default` has."""
  if value is None and name in _MAY_BE_NULL:
    return None
  if name == "eos_token_id" and isinstance(value, list) and value:
    value = value[0]
  kind = type(default)
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
