"""FLOPs of the vision tower in closed form (`jaxvlm.models.flops`)."""

from jaxvlm.models.qwen3_vl.config import Config


def tower(config: Config, prompts: int, patches: int) -> float:
  """Returns the FLOPs of the tower: P slots, empty ones included."""
  v = config.vision
  d, merge = v.hidden_size, v.spatial_merge_size**2
  embed = 2.0 * config.layout.patch_values * d
  block = 2.0 * (4 * d * d + 2 * d * v.intermediate_size) + 4.0 * d * patches
  wide = d * merge
  merger = 2.0 * (wide * wide + wide * v.out_hidden_size) / merge
  mergers = 1 + len(v.deepstack_visual_indexes)
  return prompts * patches * (embed + v.depth * block + mergers * merger)


def shares(config: Config) -> tuple[float, ...]:
  """Returns nothing: no layer has branches."""
  return ()
