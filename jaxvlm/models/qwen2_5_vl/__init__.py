"""Qwen2.5-VL in Flax (Linen): its `FAMILY`, and its functions by name.

`jaxvlm.models` has the same functions for a model of any family.
"""

import pathlib
from typing import Any

import jax
import numpy as np

from jaxvlm.models import decoder, folder
from jaxvlm.models.family import Family, Tower
from jaxvlm.models.inputs import batch_from_hf
from jaxvlm.models.qwen2_5_vl import flops, model
from jaxvlm.models.qwen2_5_vl.config import Config, VisionConfig
from jaxvlm.models.qwen2_5_vl.model import init
from jaxvlm.models.qwen2_5_vl.partition import RULES
from jaxvlm.models.qwen2_5_vl.presets import PRESETS
from jaxvlm.models.qwen2_5_vl.table import TABLE
from jaxvlm.typing import Batch, Model, Params

__all__ = [
  "FAMILY",
  "Config",
  "VisionConfig",
  "batch_from_hf",
  "bind",
  "init",
  "load_pretrained",
  "logits",
  "save_pretrained",
]

FAMILY = Family(
  model_type=Config.model_type,
  read=Config.from_dict,
  write=Config.to_dict,
  decoder=model.decoder,
  init=init,
  table=TABLE,
  rules=RULES,
  presets=PRESETS,
  tower=Tower(flops.tower, flops.shares),
)


def bind(config: Config, **options: Any) -> Model:
  """Returns the model's functions; options as `jaxvlm.models.bind`."""
  return decoder.bind(model.decoder(config), **options)


def logits(config: Config, params: Params, batch: Batch) -> jax.Array:
  """As `jaxvlm.models.logits`: f32[N, S, V] at the prompts' positions."""
  return decoder.logits(model.decoder(config), params, batch)


def load_pretrained(
  path: str | pathlib.Path, dtype: Any = np.float32
) -> tuple[Config, Params]:
  """As `jaxvlm.models.load_pretrained`, of this family alone."""
  return folder.load_pretrained(FAMILY, path, dtype)


def save_pretrained(
  path: str | pathlib.Path, config: Config, params: Params, **options: Any
) -> None:
  """As `jaxvlm.models.save_pretrained`."""
  folder.save_pretrained(FAMILY, path, config, params, **options)
