"""Qwen2.5-VL in Flax (Linen)."""

from jaxvlm.models.qwen2_5_vl.config import Config, VisionConfig
from jaxvlm.models.qwen2_5_vl.convert import (
  check_pretrained,
  fingerprint,
  load_pretrained,
  load_sharded,
  save_pretrained,
)
from jaxvlm.models.qwen2_5_vl.fit import check_chat
from jaxvlm.models.qwen2_5_vl.inputs import batch_from_hf
from jaxvlm.models.qwen2_5_vl.model import (
  bind,
  init,
  init_sharded,
  logits,
)

__all__ = [
  "Config",
  "VisionConfig",
  "batch_from_hf",
  "bind",
  "check_chat",
  "check_pretrained",
  "fingerprint",
  "init",
  "init_sharded",
  "load_pretrained",
  "load_sharded",
  "logits",
  "save_pretrained",
]
