"""How the parameters of Qwen3-VL lie on a mesh: the tower, as the decoder."""

import functools

from jax.sharding import PartitionSpec as P

from jaxvlm import sharding
from jaxvlm.models import partition
from jaxvlm.models.partition import UNSTACKED
from jaxvlm.sharding import Partition

_BLOCK = f"visual/blocks/{UNSTACKED}"
_MERGERS = "visual/(?:merger|deepstack)/"

RULES: Partition = (
  *partition.RULES,
  *partition.patches("visual/patch_embed"),
  *partition.fused(f"{_BLOCK}qkv"),
  # Looked up for every patch: collected whole, as a layer is.
  ("visual/pos_embed/table", P(None, "fsdp")),
  *partition.matrices(
    reads=f"(?:{_BLOCK}|{_MERGERS})fc1",
    writes=f"(?:{_BLOCK}(?:proj|fc2)|{_MERGERS}fc2)",
  ),
  *partition.vectors("visual"),
)

# (parameters of one module, dtype=) -> the same, whole along `fsdp`.
block = functools.partial(sharding.collect, RULES, "visual/blocks")
merger = functools.partial(sharding.collect, RULES, "visual/merger")
deepstack = functools.partial(sharding.collect, RULES, "visual/deepstack")
patch_embed = functools.partial(sharding.collect, RULES, "visual/patch_embed")
pos_embed = functools.partial(sharding.collect, RULES, "visual/pos_embed")
