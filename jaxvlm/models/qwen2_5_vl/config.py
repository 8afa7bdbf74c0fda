"""Qwen2.5-VL configuration: the official config.json as frozen dataclasses.

What is read stands in the dataclasses; what is not read is kept as it stood
and written again, so that another reader finds it in an exported folder.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from jaxvlm.data.layout import VisionLayout
from jaxvlm.models import config_json, tower
from jaxvlm.models.config_json import ACTIVATION, TIED, fields_of

_INERT = config_json.INERT | frozenset(
  "max_window_layers use_sliding_window sliding_window layer_types"
  " vision_token_id spatial_patch_size in_channels in_chans tokens_per_second"
  " vision_config".split()
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
_ROPE = {"mrope": {"mrope_section"}, "default": {"mrope_section"}}


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
  model_type: ClassVar[str] = "qwen2_5_vl"
  qkv_bias: ClassVar[bool] = True
  o_bias: ClassVar[bool] = False
  mlp_bias: ClassVar[bool] = False
  qk_norm: ClassVar[bool] = False

  def __post_init__(self):
    config_json.check("Qwen2.5-VL", self._rules())

  def _rules(self) -> Iterator[config_json.Rule]:
    yield config_json.heads_rule(self)
    heads = self.num_attention_heads
    yield (
      self.hidden_size % heads == 0 and self.head_dim % 2 == 0,
      f"hidden_size {self.hidden_size} does not split into {heads} heads of"
      " even width",
      "change hidden_size or num_attention_heads",
    )
    yield config_json.mrope_rule(self)
    yield from config_json.tower_rules(self)

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
    return config_json.read(path, cls.from_dict)

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
    config_json.warn_of_unknown(unknown, where)
    return config

  def to_dict(self) -> dict[str, Any]:
    """Returns config.json: as it was read, but for what has changed since.

    The official flat form, if it was not read from a file.
    """
    if not self.source:
      return self._official()
    raw = json.loads(self.source)
    before, _ = _read(raw, "config.json")
    return config_json.rewritten(raw, before, self, _OUTER)

  def _official(self) -> dict[str, Any]:
    fields = config_json.plain(self)
    section = fields.pop("mrope_section")
    return {
      "architectures": ["Qwen2_5_VLForConditionalGeneration"],
      "model_type": "qwen2_5_vl",
      "hidden_act": ACTIVATION,
      "use_sliding_window": False,
      **fields,
      "rope_scaling": {"type": "mrope", "mrope_section": section},
      "vision_config": {
        "model_type": "qwen2_5_vl",
        "hidden_act": ACTIVATION,
        "in_channels": 3,
        **config_json.plain(self.vision),
        # Of the official files; transformers would fill in 4.
        "tokens_per_second": 2,
      },
    }


def _read(raw: Mapping[str, Any], where: str) -> tuple[Config, list[str]]:
  """Returns a config and the names of fields that are not known."""
  config_json.check_model_type(raw, Config.model_type, where)
  config_json.check_plain(raw, where)
  text, inside = dict(raw), where
  inner = config_json.section(raw, "text_config", where)
  if inner:
    text = {k: x for k, x in inner.items() if k not in _OUTER}
    text |= {k: raw[k] for k in _OUTER & raw.keys()}
    inside = f"{where} text_config"
    # Written in both places; either counts.
    text[TIED] = bool(raw.get(TIED) or inner.get(TIED))
  text.pop("mrope_section", None)  # means nothing outside of `rope`
  rope = config_json.rotary(text, inside, _ROPE)
  text |= {k: rope[k] for k in ("rope_theta", "mrope_section") if k in rope}
  config_json.check_full_attention(text, where)
  vision = config_json.section(raw, "vision_config", where)
  config_json.check_tower_rope(vision, where, tower.ROPE_THETA)
  config_json.check_activation(text, "text", where)
  config_json.check_activation(vision, "vision", where)
  config = Config(
    **_known(Config, text, inside),
    vision=VisionConfig(
      **_known(VisionConfig, vision, f"{where} vision_config")
    ),
    source=json.dumps(raw),
  )
  known = _INERT | set(fields_of(Config))
  unknown = sorted((raw.keys() | text.keys()) - known)
  known = _INERT | set(fields_of(VisionConfig))
  return config, unknown + [
    f"vision_config.{name}" for name in sorted(vision.keys() - known)
  ]


def _known(cls: type, raw: Mapping[str, Any], where: str) -> dict[str, Any]:
  """Returns the constructor arguments of `cls` found in `raw`."""
  names = fields_of(cls)
  return config_json.arguments(cls, names, raw, where, optional=_OPTIONAL)
