"""TPU slices by name, and what a chip of each kind can do.

The TPU compiler is a library that runs on any machine, so a slice is known
without owning one: `devices("v5e:8x8")` are 64 devices that can be compiled
for and never run.
"""

import dataclasses
import math
import os
import re
from typing import Any

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """Figures of one compile-time device, the unit that memory belongs to.

  Attributes:
    name: as in a topology's name.
    hbm: bytes that the compiler lets a program use (its own error message).
    flops: bf16 peak, FLOP/s.
    bandwidth: HBM bytes/s.
    link: bytes/s that a ring over one torus axis moves, both directions.
    axes: of the torus.
    per_chip: devices that make up one rented chip.
  """

  name: str
  hbm: int
  flops: float
  bandwidth: float
  link: float
  axes: int
  per_chip: int = 1


# Peak and bandwidth: cloud.google.com/tpu/docs, one page per generation.
# Link: jax-ml.github.io/scaling-book/tpus, twice the one-way figure of a link.
# HBM: "exceeds available HBM (…G)" of libtpu 0.0.51, not the data sheet's
# 16, 32, 95, 32 and 192 GB: the runtime keeps a part for itself.
CHIPS = {
  chip.name: chip
  for chip in (
    Chip("v5e", int(15.75 * GIB), 197e12, 819e9, 9e10, 2),
    Chip("v6e", int(31.24 * GIB), 918e12, 1640e9, 18e10, 2),
    Chip("v5p", int(95.73 * GIB), 459e12, 2765e9, 18e10, 3),
    Chip("v4", int(30.75 * GIB), 275e12, 1228e9, 9e10, 3),
    Chip("tpu7x", int(94.74 * GIB), 1153.5e12, 3690e9, 18e10, 3, 2),
  )
}
_NAME = re.compile(r"(\w+):(\d+(?:x\d+){1,2})")
_EXAMPLES = "v5e:8x8, v6e:4x4, v5p:2x2x4, v4:2x2x2, tpu7x:2x2x1"


@dataclasses.dataclass(frozen=True)
class Topology:
  """A slice: its name, its chips, how many devices it has."""

  name: str
  chip: Chip
  devices: int


def parse(name: str) -> Topology:
  """Returns the slice called `name`; asks no compiler.

  Raises:
    ValueError: not of the form `chip:AxB[xC]`, or an unknown chip.
  """
  match = _NAME.fullmatch(name)
  if match is None or match[1] not in CHIPS:
    raise ValueError(
      f"topology is {name!r}, expected a chip ({', '.join(CHIPS)}), a colon and"
      f" the slice's sides, such as {_EXAMPLES}"
    )
  chip = CHIPS[match[1]]
  sides = [int(side) for side in match[2].split("x")]
  if len(sides) != chip.axes or 0 in sides:
    raise ValueError(
      f"topology is {name!r}, expected {chip.axes} positive sides for"
      f" {chip.name}: its torus has {chip.axes} axes ({_EXAMPLES})"
    )
  return Topology(name, chip, math.prod(sides) * chip.per_chip)


def devices(topology: Topology) -> list[Any]:
  """Returns the slice's devices: to compile for, not to run on.

  Raises:
    ValueError: no libtpu, or a slice that it does not know.
  """
  quiet_libtpu()
  import jax  # after the environment is set
  from jax.experimental import topologies

  # A v4 chip is one device only where its two cores are run as one.
  extra = {"chip_config_name": "megacore"} if topology.chip.name == "v4" else {}
  try:
    described = topologies.get_topology_desc(
      platform="tpu", topology_name=topology.name, **extra
    )
  except (jax.errors.JaxRuntimeError, NotImplementedError) as e:
    raise ValueError(
      f"topology is {topology.name!r}, which the TPU compiler does not know:"
      f" {str(e).splitlines()[0]}; expected sides that whole hosts fill, such"
      f" as {_EXAMPLES}"
    ) from e
  except (RuntimeError, ImportError, OSError) as e:
    raise ValueError(
      f"no TPU compiler: {e}; it comes with the libtpu wheel (Linux), in a"
      " checkout: pip install -e '.[plan]', elsewhere: pip install"
      " 'jaxvlm[plan]'"
    ) from e
  if len(described.devices) != topology.devices:
    raise ValueError(
      f"topology {topology.name!r} has {len(described.devices)} devices in"
      f" this libtpu, expected {topology.devices}"
    )
  return list(described.devices)


def quiet_libtpu() -> None:
  """Tells libtpu that this machine is no TPU host: no metadata server (it
  would wait for one), no lock, no pages of warnings about missing addresses.
  Takes effect if called before its first use in the process.
  """
  for name, value in {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
  }.items():
    os.environ.setdefault(name, value)
