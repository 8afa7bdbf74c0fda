"""Qwen3-VL configuration: the official config.json as frozen dataclasses.

Decoder and tower stand in text_config and vision_config. What is not read is
kept as it stood and written again.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from jaxvlm.data.layout import VisionLayout
from jaxvlm.models import config_json, tower
from jaxvlm.models.config_json import ACTIVATION, TIED, fields_of

TOWER_ACTIVATION = "gelu_pytorch_tanh"
_INERT = config_json.INERT | frozenset(
  "attention_bias in_channels vision_config".split()
)
# Read at the top level of config.json; all else of the decoder in text_config.
_OUTER = frozenset(
  "image_token_id video_token_id vision_start_token_id"
  " vision_end_token_id".split()
)
# Fields that a config.json may leave out.
_OPTIONAL = _OUTER | frozenset(
  "max_position_embeddings initializer_range bos_token_id eos_token_id".split()
)
# `mrope_interleaved` is said by every published file and is the only way here.
_ROPE = {"default": {"mrope_section", "mrope_interleaved"}}
MIXTURE = (
  "a mixture of experts, whose layers choose among several MLPs by token, which"
  " is not supported: take a dense Qwen3-VL (2B, 4B, 8B or 32B)"
)


@dataclasses.dataclass(frozen=True)
class VisionConfig:
  """The vision tower; names as in config.json.

  Attributes:
    num_position_embeddings: entries of the table of learned positions, a
      square that is stretched over every picture.
    deepstack_visual_indexes: layers whose outputs the decoder gets, too; the
      first of them after its first layer, and so on.
  """

  depth: int = 27
  hidden_size: int = 1152
  intermediate_size: int = 4304
  num_heads: int = 16
  out_hidden_size: int = 4096
  patch_size: int = 16
  spatial_merge_size: int = 2
  temporal_patch_size: int = 2
  num_position_embeddings: int = 2304
  deepstack_visual_indexes: tuple[int, ...] = (8, 16, 24)
  initializer_range: float = 0.02

  @property
  def table_side(self) -> int:
    """Rows, and columns, of the table of learned positions."""
    return math.isqrt(self.num_position_embeddings)


@dataclasses.dataclass(frozen=True)
class Config:
  """The whole model: decoder fields at the top level, the tower in `vision`.

  Attributes:
    mrope_section: frequencies per axis (time, height, width); they add up to
      half a head.
    vision: the tower.
    source: text of the config.json that this was read from, or nothing; as in
      `qwen2_5_vl.Config`.
  """

  vocab_size: int = 151936
  hidden_size: int = 4096
  intermediate_size: int = 12288
  num_hidden_layers: int = 36
  num_attention_heads: int = 32
  num_key_value_heads: int = 8
  head_dim: int = 128
  rms_norm_eps: float = 1e-6
  rope_theta: float = 5e6
  mrope_section: tuple[int, int, int] = (24, 20, 20)
  max_position_embeddings: int = 262144
  initializer_range: float = 0.02
  tie_word_embeddings: bool = False
  image_token_id: int = 151655
  video_token_id: int = 151656
  vision_start_token_id: int = 151652
  vision_end_token_id: int = 151653
  # Kept for transformers; of several ends, the first.
  bos_token_id: int | None = 151643
  eos_token_id: int | None = 151645
  vision: VisionConfig = dataclasses.field(default_factory=VisionConfig)
  source: str = dataclasses.field(default="", repr=False, compare=False)
  model_type: ClassVar[str] = "qwen3_vl"
  qkv_bias: ClassVar[bool] = False
  o_bias: ClassVar[bool] = False
  mlp_bias: ClassVar[bool] = False
  qk_norm: ClassVar[bool] = True

  def __post_init__(self):
    config_json.check("Qwen3-VL", self._rules())

  def _rules(self) -> Iterator[config_json.Rule]:
    yield config_json.heads_rule(self)
    yield config_json.mrope_rule(self)
    yield from config_json.tower_rules(self)
    v = self.vision
    yield (
      v.table_side**2 == v.num_position_embeddings > 0,
      f"num_position_embeddings is {v.num_position_embeddings}",
      "expected a square: the table has as many rows as columns",
    )
    found = v.deepstack_visual_indexes
    yield (
      bool(found)
      and list(found) == sorted(set(found))
      and 0 <= found[0]
      and found[-1] < v.depth,
      f"deepstack_visual_indexes is {list(found)}",
      f"expected at least one layer of the {v.depth} of the tower, ascending",
    )
    yield (
      len(found) <= self.num_hidden_layers,
      f"deepstack_visual_indexes {list(found)} gives features to the first"
      f" {len(found)} layers of a decoder of {self.num_hidden_layers}",
      "expected at most as many as it has; copy the config.json that belongs to"
      " the weights",
    )

  @property
  def layout(self) -> VisionLayout:
    """The host's view of the tower; a window is one merged token: no windows,
    so that patches stand in reading order without empty slots."""
    v = self.vision
    return VisionLayout(
      patch=v.patch_size,
      merge=v.spatial_merge_size,
      window=v.patch_size * v.spatial_merge_size,
      temporal_patch=v.temporal_patch_size,
    )

  @classmethod
  def from_dict(
    cls, raw: Mapping[str, Any], where: str = "config.json"
  ) -> "Config":
    """Reads the official form, and that of transformers 5.

    Args:
      raw: the file's content.
      where: what to call it in a message.

    Raises:
      ValueError: another architecture, a mixture of experts, a setting that is
        not supported, a field that is absent or of the wrong type.
    """
    config, unknown = _read(raw, where)
    config_json.warn_of_unknown(unknown, where)
    return config

  def to_dict(self) -> dict[str, Any]:
    """Returns config.json: as it was read, but for what has changed since.

    The official form, if it was not read from a file.
    """
    if not self.source:
      return self._official()
    raw = json.loads(self.source)
    before, _ = _read(raw, "config.json")
    return config_json.rewritten(raw, before, self, _OUTER)

  def _official(self) -> dict[str, Any]:
    text = config_json.plain(self)
    outer = {name: text.pop(name) for name in sorted(_OUTER)}
    section = text.pop("mrope_section")
    return {
      "architectures": ["Qwen3VLForConditionalGeneration"],
      "model_type": "qwen3_vl",
      **outer,
      TIED: self.tie_word_embeddings,
      "text_config": {
        "model_type": "qwen3_vl_text",
        "hidden_act": ACTIVATION,
        "attention_bias": False,
        **text,
        "rope_scaling": {
          "rope_type": "default",
          "mrope_interleaved": True,
          "mrope_section": section,
        },
      },
      "vision_config": {
        "model_type": "qwen3_vl",
        "hidden_act": TOWER_ACTIVATION,
        "in_channels": 3,
        **config_json.plain(self.vision),
      },
    }


def _read(raw: Mapping[str, Any], where: str) -> tuple[Config, list[str]]:
  """Returns a config and the names of fields that are not known."""
  config_json.check_model_type(raw, Config.model_type, where)
  config_json.check_plain(raw, where)
  vision = config_json.section(raw, "vision_config", where)
  text = config_json.section(raw, "text_config", where)
  inside, around = f"{where} text_config", f"{where} vision_config"
  if text.get("num_experts"):
    raise ValueError(
      f"{inside} has num_experts {text['num_experts']}: {MIXTURE}"
    )
  text |= {name: raw[name] for name in _OUTER & raw.keys()}
  # Written in both places; either counts.
  text[TIED] = bool(raw.get(TIED) or text.get(TIED))
  rope = config_json.rotary(text, inside, _ROPE)
  if not rope.get("mrope_interleaved", True):
    raise ValueError(
      f"{inside} has mrope_interleaved false, expected true: rotary sections in"
      " blocks belong to other models"
    )
  if text.get("attention_bias"):
    raise ValueError(
      f"{inside} has attention_bias true, expected false: no Qwen3-VL has"
      " biases in its decoder"
    )
  text.pop("mrope_section", None)  # means nothing outside of `rope`
  text |= {k: rope[k] for k in ("rope_theta", "mrope_section") if k in rope}
  config_json.check_full_attention(text, inside)
  config_json.check_activation(text, "text", where)
  config_json.check_activation(vision, "vision", where, TOWER_ACTIVATION)
  config_json.check_tower_rope(vision, where, tower.ROPE_THETA)

  def known(cls, part, where):
    names = fields_of(cls)
    return config_json.arguments(cls, names, part, where, optional=_OPTIONAL)

  config = Config(
    **known(Config, text, inside),
    vision=VisionConfig(**known(VisionConfig, vision, around)),
    source=json.dumps(raw),
  )
  unknown = raw.keys() - _INERT - _OUTER - {TIED}
  unknown |= text.keys() - _INERT - set(fields_of(Config))
  ours = _INERT | {*fields_of(VisionConfig), "rope_parameters"}
  unknown |= {f"vision_config.{name}" for name in vision.keys() - ours}
  return config, sorted(unknown)
