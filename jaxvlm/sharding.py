"""Devices: which ones a run has, and how arrays are laid out on them."""

import os

import jax


def device_layout() -> str:
  """Returns the devices that a run's bits depend on, as text.

  Reductions are split over cores and devices, so equality to the bit is
  promised on the same layout only.
  """
  devices = jax.devices()
  kind = f"{len(devices)} x {devices[0].device_kind}"
  if devices[0].platform == "cpu":
    kind += f", {len(os.sched_getaffinity(0))} cores"
  return f"{kind}, {jax.process_count()} process(es)"
