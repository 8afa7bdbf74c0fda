"""Qwen2.5-VL configuration: the official config.json as frozen dataclasses."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxvlm.data.layout import VisionLayout

# Fields of published config.json files that do not change what is computed
# here: book-keeping, training-only or serving-only. Anything else that is
# unknown is an error, because ignoring it could silently change the model.
_INERT = frozenset(
  "architectures model_type transformers_version torch_dtype dtype use_cache"
  " attention_dropout max_window_layers use_sliding_window sliding_window"
  " layer_types vision_token_id spatial_patch_size in_channels"
  " in_chans tokens_per_second _name_or_path output_attentions"
  " output_hidden_states return_dict chunk_size_feed_forward"
  " is_encoder_decoder id2label label2id problem_type text_config"
  " vision_config rope_scaling rope_parameters rope_theta"
  " _attn_implementation_autoset pad_token_id".split()
)
# Fields that a config.json may leave out; any other gap would silently be
# filled with the 3B model's value.
_OPTIONAL = frozenset(
  "max_position_embeddings initializer_range image_token_id video_token_id"
  " vision_start_token_id vision_end_token_id bos_token_id"
  " eos_token_id".split()
)
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
  # Kept for transformers; we take the end of a turn from the tokenizer.
  bos_token_id: int | None = 151643
  eos_token_id: int | None = 151645
  vision: VisionConfig = dataclasses.field(default_factory=VisionConfig)

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
    return cls.from_dict(json.loads(file.read_text()))

  @classmethod
  def from_dict(cls, raw: Mapping[str, Any]) -> "Config":
    """Reads the flat (official) or nested (transformers 5) form."""
    if raw.get("model_type", "qwen2_5_vl") != "qwen2_5_vl":
      raise ValueError(
        f"config.json has model_type {raw['model_type']!r}, expected"
        " 'qwen2_5_vl': only the Qwen2.5-VL family is supported"
      )
    if "quantization_config" in raw:
      raise ValueError(
        f"config.json has quantization_config {raw['quantization_config']},"
        " expected none: load a folder in bfloat16 or float32"
      )
    inner = raw.get("text_config", {})
    text = {**raw, **inner}
    tied = "tie_word_embeddings"
    if tied in raw and tied in inner:  # written in both places; either counts
      text[tied] = raw[tied] or inner[tied]
    rope = dict(text.get("rope_scaling") or {})
    rope.update(text.get("rope_parameters") or {})
    if "rope_theta" in rope:
      text["rope_theta"] = rope["rope_theta"]
    if "mrope_section" in rope:
      text["mrope_section"] = rope["mrope_section"]
    kinds = {rope.get("type", "mrope"), rope.get("rope_type", "default")}
    if not kinds <= {"mrope", "default"}:
      raise ValueError(
        f"config.json has rope_scaling {rope}, expected type 'mrope' or"
        " 'default': long-context scaling is not supported"
      )
    if text.get("use_sliding_window"):
      raise ValueError(
        "config.json has use_sliding_window true; expected false: sliding"
        " windows in the decoder are not supported"
      )
    vision = dict(raw.get("vision_config", {}))
    for name, part in (("text", text), ("vision", vision)):
      act = part.get("hidden_act", _REQUIRED_ACT)
      if act != _REQUIRED_ACT:
        raise ValueError(
          f"config.json has {name} hidden_act {act!r}, expected"
          f" {_REQUIRED_ACT!r}"
        )
    return cls(
      **_known(cls, text, "config.json", {"vision", "hidden_act"}),
      vision=VisionConfig(
        **_known(
          VisionConfig, vision, "config.json vision_config", {"hidden_act"}
        )
      ),
    )

  def to_dict(self) -> dict[str, Any]:
    """Returns the official flat form of config.json."""
    fields = dataclasses.asdict(self)
    vision = fields.pop("vision")
    section = list(fields.pop("mrope_section"))
    vision["fullatt_block_indexes"] = list(vision["fullatt_block_indexes"])
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
        **vision,
      },
    }


def _known(
  cls: type, raw: Mapping[str, Any], where: str, also: set[str]
) -> dict[str, Any]:
  """Returns the constructor arguments of `cls` found in `raw`."""
  names = {f.name for f in dataclasses.fields(cls)} - {"vision"}
  unknown = sorted(set(raw) - names - _INERT - also)
  if unknown:
    raise ValueError(
      f"{where} has unknown field(s) {unknown}; expected a subset of"
      f" {sorted(names)}: remove what does not change the computation"
    )
  missing = sorted(names - set(raw) - _OPTIONAL)
  if missing:
    raise ValueError(
      f"{where} lacks field(s) {missing}, which decide what is computed; copy"
      " the config.json that belongs to the weights"
    )
  return {
    name: tuple(raw[name]) if isinstance(raw[name], list) else raw[name]
    for name in names
    if name in raw
  }
