"""How the parameters of Qwen2.5-VL lie on a mesh: the tower, as the decoder."""

import functools

from jaxvlm import sharding
from jaxvlm.models import partition
from jaxvlm.models.partition import UNSTACKED
from jaxvlm.sharding import Partition

_BLOCK = f"visual/blocks/{UNSTACKED}"

RULES: Partition = (
  *partition.RULES,
  *partition.patches("visual/patch_embed"),
  *partition.fused(f"{_BLOCK}qkv"),
  *partition.matrices(
    reads=f"(?:{_BLOCK}mlp/(?:gate_proj|up_proj)|visual/merger/fc1)",
    writes=f"(?:{_BLOCK}(?:proj|mlp/down_proj)|visual/merger/fc2)",
  ),
  *partition.vectors("visual"),
)

# (parameters of one module, dtype=) -> the same, whole along `fsdp`.
block = functools.partial(sharding.collect, RULES, "visual/blocks")
merger = functools.partial(sharding.collect, RULES, "visual/merger")
patch_embed = functools.partial(sharding.collect, RULES, "visual/patch_embed")
