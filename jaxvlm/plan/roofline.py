"""The shortest time a step can take, and what it is waiting for."""

import dataclasses

from jaxvlm.plan.topology import Chip


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Lower bounds of one step in seconds, per resource.

  Attributes:
    compute: FLOPs over the bf16 peak.
    memory: HBM bytes over the bandwidth.
    network: bytes sent over one torus axis, both ways.
    seconds: the largest of the three: the step, were all else hidden.
    bound: its name.
    mfu: model FLOPs (no recomputation) per second at that bound, over peak.
  """

  compute: float
  memory: float
  network: float
  seconds: float
  bound: str
  mfu: float


def roofline(
  chip: Chip,
  *,
  flops: float,
  model_flops: float,
  hbm_bytes: float,
  wire_bytes: float,
) -> Roofline:
  """Returns the bounds of one device's share of a step.

    t = max(FLOPs / peak, HBM bytes / bandwidth, sent bytes / link)

  Williams, Waterman and Patterson, doi:10.1145/1498765.1498785. Everything is
  taken as overlapping perfectly, so a real step takes longer.

  Args:
    chip: the device.
    flops: executed, recomputation included.
    model_flops: what the mathematics needs.
    hbm_bytes: read and written.
    wire_bytes: sent over the interconnect.
  """
  bounds = {
    "compute": flops / chip.flops,
    "memory": hbm_bytes / chip.bandwidth,
    "network": wire_bytes / chip.link,
  }
  bound = max(bounds, key=bounds.get)
  seconds = bounds[bound]
  mfu = model_flops / (seconds * chip.flops) if seconds else 0.0
  return Roofline(**bounds, seconds=seconds, bound=bound, mfu=mfu)
