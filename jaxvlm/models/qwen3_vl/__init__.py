"""Qwen3-VL in Flax (Linen), dense models only: its `FAMILY`.

`jaxvlm.models` has the functions, for a model of any family.
"""

from jaxvlm.models.family import Family, Tower
from jaxvlm.models.qwen3_vl import flops, model
from jaxvlm.models.qwen3_vl.config import MIXTURE, Config, VisionConfig
from jaxvlm.models.qwen3_vl.partition import RULES
from jaxvlm.models.qwen3_vl.presets import PRESETS
from jaxvlm.models.qwen3_vl.table import TABLE

__all__ = ["FAMILY", "Config", "VisionConfig"]

FAMILY = Family(
  model_type=Config.model_type,
  read=Config.from_dict,
  write=Config.to_dict,
  decoder=model.decoder,
  init=model.init,
  table=TABLE,
  rules=RULES,
  presets=PRESETS,
  tower=Tower(flops.tower, flops.shares),
  refused={"qwen3_vl_moe": MIXTURE},
)
