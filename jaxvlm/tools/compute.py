"""What a command computes with: the type of numbers, the devices."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from jaxvlm import config as configs
from jaxvlm import distributed, sharding
from jaxvlm.distributed import DistributedConfig
from jaxvlm.sharding import MeshConfig

flags.disclaim_key_flags()


@dataclasses.dataclass(frozen=True)
class ComputeConfig:
  """One device in float32, unless said otherwise."""

  bfloat16: bool = dataclasses.field(
    default=False, metadata={"help": "weights and products in bfloat16"}
  )
  mesh: MeshConfig = dataclasses.field(
    default_factory=lambda: MeshConfig(data=1, fsdp=1, tensor=1)
  )

  @property
  def dtype(self) -> Any:
    """The type of weights and of matrix products."""
    return jnp.bfloat16 if self.bfloat16 else jnp.float32


def make_mesh(config: ComputeConfig) -> jax.sharding.Mesh:
  """Returns the mesh of as many devices as are asked for.

  Of a single process the first ones; several processes use all they have.

  Raises:
    ValueError: there are not so many.
  """
  sizes = dataclasses.astuple(config.mesh)
  devices = jax.devices()
  if min(sizes) > 0 and jax.process_count() == 1:
    devices = devices[: math.prod(sizes)]
  return sharding.make_mesh(config.mesh, devices)


def define_devices() -> None:
  """Defines the flags of `on_devices`."""
  configs.define_flags(MeshConfig(), prefix="mesh")
  configs.define_flags(DistributedConfig(), prefix="distributed")


@contextlib.contextmanager
def on_devices() -> Iterator[jax.sharding.Mesh]:
  """Joins the processes that the flags name; yields the mesh of all devices."""
  cluster = configs.from_flags(DistributedConfig(), prefix="distributed")
  with distributed.session(cluster):
    yield sharding.make_mesh(configs.from_flags(MeshConfig(), prefix="mesh"))
