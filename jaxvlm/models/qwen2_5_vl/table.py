"""The tensors of a Qwen2.5-VL folder."""

from jaxvlm.models import names
from jaxvlm.models.names import PATCH_KERNEL, SAME, Row, Table, linear

_BLOCK = "visual.blocks.*"
_TOWER: tuple[Row, ...] = (
  (
    "visual/patch_embed/kernel",
    "visual.patch_embed.proj.weight",
    PATCH_KERNEL,
  ),
  ("visual/blocks/norm1/weight", f"{_BLOCK}.norm1.weight", SAME),
  ("visual/blocks/norm2/weight", f"{_BLOCK}.norm2.weight", SAME),
  *linear("visual/blocks/qkv", f"{_BLOCK}.attn.qkv"),
  *linear("visual/blocks/proj", f"{_BLOCK}.attn.proj"),
  *(
    row
    for p in ("gate_proj", "up_proj", "down_proj")
    for row in linear(f"visual/blocks/mlp/{p}", f"{_BLOCK}.mlp.{p}")
  ),
  ("visual/merger/ln_q/weight", "visual.merger.ln_q.weight", SAME),
  *linear("visual/merger/fc1", "visual.merger.mlp.0"),
  *linear("visual/merger/fc2", "visual.merger.mlp.2"),
)

TABLE = Table((*_TOWER, *names.DECODER), names.WITH_TOWER)
