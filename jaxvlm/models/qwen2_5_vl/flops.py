"""FLOPs of the vision tower in closed form (`jaxvlm.models.flops`)."""

from jaxvlm.models.qwen2_5_vl.config import Config


def tower(config: Config, prompts: int, patches: int) -> float:
  """Returns the FLOPs of the tower: P slots, empty ones included."""
  v = config.vision
  d, merge = v.hidden_size, v.spatial_merge_size**2
  full = sum(i in v.fullatt_block_indexes for i in range(v.depth))
  window = config.layout.window_slots
  keys = full * patches + (v.depth - full) * window
  blocks = v.depth * 2.0 * (4 * d * d + 3 * d * v.intermediate_size)
  embed = 2.0 * config.layout.patch_values * d
  wide = d * merge
  merger = 2.0 * (wide * wide + wide * v.out_hidden_size) / merge
  return prompts * patches * (blocks + embed + merger + 4.0 * d * keys)


def shares(config: Config) -> tuple[float, float]:
  """Returns how often a layer of the tower is (windowed, full)."""
  full = len(config.vision.fullatt_block_indexes) / config.vision.depth
  return 1 - full, full
