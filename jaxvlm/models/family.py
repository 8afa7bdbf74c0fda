"""What a model family is: one value, read by everything that is common.

A family says how its config.json is read, what stands around the common
decoder, what its tensors are called, and how they are cut. Which families
there are is said by the table in `jaxvlm.models`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxvlm.models import names
from jaxvlm.models.decoder import Decoder
from jaxvlm.sharding import Partition
from jaxvlm.typing import Params


@dataclasses.dataclass(frozen=True)
class Tower:
  """What the planner must know of a vision tower.

  Attributes:
    flops: (config, N, patch slots of each) -> FLOPs of its forward pass.
    shares: config -> how often a layer takes each branch of its `cond`.
  """

  flops: Callable[[Any, int, int], float]
  shares: Callable[[Any], Sequence[float]]


@dataclasses.dataclass(frozen=True)
class Family:
  """One value of config.json's `model_type`.

  A configuration is a frozen dataclass with the fields of `DecoderConfig`,
  `model_type`, `max_position_embeddings`, `layout` (the geometry of its
  pictures; None: it reads text only) and `image_token_id`.

  Attributes:
    model_type: its name in config.json.
    read: (content of config.json, what to call it) -> configuration.
    write: configuration -> content of config.json.
    decoder: configuration -> the common decoder, completed.
    init: (configuration, key) -> random parameters, f32.
    table: what its tensors are called.
    rules: how its parameters are cut.
    presets: published sizes, by the names that `jaxvlm plan` takes.
    tower: of its pictures; None without.
    refused: kinds of model beside it that are not supported -> why.
  """

  model_type: str
  read: Callable[[Mapping[str, Any], str], Any]
  write: Callable[[Any], dict[str, Any]]
  decoder: Callable[[Any], Decoder]
  init: Callable[[Any, jax.Array], Params]
  table: names.Table
  rules: Partition
  presets: Mapping[str, Any]
  tower: Tower | None = None
  refused: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def naming(self, config: Any) -> names.Naming:
    """Returns the tensors of a configuration."""
    return names.naming(self.table, config, self.init)
