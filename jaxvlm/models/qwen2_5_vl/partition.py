"""How the parameters of Qwen2.5-VL lie on a mesh: the tower, as the decoder."""

import functools

from jax.sharding import PartitionSpec as P

from jaxvlm import sharding
from jaxvlm.models import partition
from jaxvlm.models.partition import KERNEL, UNSTACKED
from jaxvlm.sharding import Partition

_BLOCK = f"visual/blocks/{UNSTACKED}"
# One matrix makes q, k and v: a cut of its columns would not follow heads.
_MIXED = f"{_BLOCK}qkv"

RULES: Partition = (
  *partition.RULES,
  ("visual/patch_embed" + KERNEL, P(None, "fsdp")),
  *partition.matrices(
    reads=f"(?:{_BLOCK}mlp/(?:gate_proj|up_proj)|visual/merger/fc1)",
    writes=f"(?:{_BLOCK}(?:proj|mlp/down_proj)|visual/merger/fc2)",
  ),
  (_MIXED + KERNEL, P(("fsdp", "tensor"), None)),
  (_MIXED + "/lora_a", P("fsdp", None)),
  (_MIXED + "/lora_b", P(None, "fsdp")),
  ("visual/patch_embed/lora_a", P(None, None)),
  ("visual/patch_embed/lora_b", P(None, "fsdp")),
  *partition.vectors("visual"),
)

# (parameters of one module, dtype=) -> the same, whole along `fsdp`.
block = functools.partial(sharding.collect, RULES, "visual/blocks")
merger = functools.partial(sharding.collect, RULES, "visual/merger")
patch_embed = functools.partial(sharding.collect, RULES, "visual/patch_embed")
