"""Models of every family; the only room that knows flax.

A family is one value (`family.Family`), found by the `model_type` of a
config.json. Nothing outside of this room asks which one it holds:

    config, params = models.load_pretrained(folder)
    model = models.bind(config)
    hidden = model.forward(params, batch)
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxvlm import sharding
from jaxvlm.models import (
  config_json,
  decoder,
  flops,
  folder,
  llama,
  qwen2,
  qwen2_5_vl,
  qwen3_vl,
)
from jaxvlm.models.family import Family
from jaxvlm.models.fit import check_chat
from jaxvlm.models.flops import Flops, Shapes
from jaxvlm.models.folder import fingerprint
from jaxvlm.models.inputs import batch_from_hf
from jaxvlm.models.llama import nano as nano_llama
from jaxvlm.models.qwen2 import nano as nano_qwen2
from jaxvlm.models.qwen2_5_vl.presets import nano
from jaxvlm.sharding import Partition
from jaxvlm.typing import Batch, Model, Params

__all__ = [
  "FAMILIES",
  "PRESETS",
  "batch_from_hf",
  "bind",
  "check_chat",
  "check_pretrained",
  "family_of",
  "fingerprint",
  "forward_flops",
  "init",
  "init_sharded",
  "load_pretrained",
  "load_sharded",
  "logits",
  "nano",
  "nano_llama",
  "nano_qwen2",
  "partition_rules",
  "read_config",
  "rollout_flops",
  "save_pretrained",
  "stream_sharded",
]

FAMILIES: Mapping[str, Family] = {
  family.model_type: family
  for family in (
    qwen2_5_vl.FAMILY,
    qwen3_vl.FAMILY,
    qwen2.FAMILY,
    llama.FAMILY,
  )
}
# Published sizes by the names that commands take.
PRESETS: Mapping[str, Any] = {
  name: config
  for family in FAMILIES.values()
  for name, config in family.presets.items()
}


def family_of(config: Any) -> Family:
  """Returns the family of a configuration."""
  return FAMILIES[config.model_type]


def read_config(path: str | pathlib.Path) -> Any:
  """Reads config.json of a Hugging Face folder, whichever family it is of.

  Raises:
    FileNotFoundError: no config.json.
    ValueError: an architecture or a setting that is not supported.
  """
  return config_json.read(path, _family_at(path).read)


def _family_at(path: str | pathlib.Path) -> Family:
  """Returns the family of a folder."""
  found = config_json.load(path).get("model_type")
  for family in FAMILIES.values():
    if found in family.refused:
      raise ValueError(
        f"{path}: config.json has model_type {found!r}: {family.refused[found]}"
      )
  if found not in FAMILIES:
    raise ValueError(
      f"{path}: config.json has model_type {found!r}, expected one of"
      f" {', '.join(map(repr, FAMILIES))}: no other family is supported"
    )
  return FAMILIES[found]


def bind(config: Any, **options: Any) -> Model:
  """Returns the model's functions for one configuration.

  Args:
    config: of `read_config` or a preset.
    **options: `dtype`, `remat`, `attend`, as `decoder.bind` takes them.
  """
  return decoder.bind(family_of(config).decoder(config), **options)


def init(config: Any, key: jax.Array) -> Params:
  """Returns random parameters, normal(0, initializer_range), f32."""
  return family_of(config).init(config, key)


def init_sharded(
  config: Any, key: jax.Array, mesh: jax.sharding.Mesh
) -> Params:
  """Returns the parameters of `init`, made in pieces on a mesh."""

  def start(key):
    return init(config, key)

  shapes = jax.eval_shape(start, key)
  places = sharding.partition(mesh, shapes, partition_rules(config))
  return jax.jit(start, out_shardings=places)(key)


def partition_rules(config: Any) -> Partition:
  """Returns how the parameters of a configuration are cut."""
  return family_of(config).rules


def logits(config: Any, params: Params, batch: Batch) -> jax.Array:
  """Returns f32[N, S, V] at the prompts' positions (small models, tests)."""
  return decoder.logits(family_of(config).decoder(config), params, batch)


def load_pretrained(
  path: str | pathlib.Path, dtype: Any = np.float32
) -> tuple[Any, Params]:
  """Loads a Hugging Face folder; as `folder.load_pretrained`."""
  return folder.load_pretrained(_family_at(path), path, dtype)


def load_sharded(
  path: str | pathlib.Path, mesh: jax.sharding.Mesh, dtype: Any = np.float32
) -> tuple[Any, Params]:
  """Loads a folder straight onto a mesh; as `folder.load_sharded`."""
  return folder.load_sharded(_family_at(path), path, mesh, dtype)


def stream_sharded(
  path: str | pathlib.Path, mesh: jax.sharding.Mesh, dtype: Any = np.float32
) -> tuple[Any, Iterator[tuple[str, jax.Array]]]:
  """Returns (config, parameters one by one); as `folder.stream_sharded`."""
  return folder.stream_sharded(_family_at(path), path, mesh, dtype)


def check_pretrained(path: str | pathlib.Path) -> Any:
  """Returns a folder's configuration once its weights are known to fit it."""
  return folder.check_pretrained(_family_at(path), path)


def save_pretrained(
  path: str | pathlib.Path, config: Any, params: Params, **options: Any
) -> None:
  """Writes a folder that transformers loads; as `folder.save_pretrained`."""
  folder.save_pretrained(family_of(config), path, config, params, **options)


def forward_flops(config: Any, shapes: Shapes, **options: Any) -> Flops:
  """Returns the FLOPs of scoring a batch; options as `flops.forward`."""
  return flops.forward(config, shapes, vision=_tower(config, shapes), **options)


def rollout_flops(config: Any, shapes: Shapes, **options: Any) -> Flops:
  """Returns the FLOPs of sampling; options as `flops.rollout`."""
  return flops.rollout(config, shapes, vision=_tower(config, shapes), **options)


def _tower(config: Any, shapes: Shapes) -> float:
  tower = family_of(config).tower
  if tower is None:
    return 0.0
  return tower.flops(config, shapes.prompts, shapes.patches)
