"""The tensors of a Qwen3-VL folder."""

from jaxvlm.models import names
from jaxvlm.models.names import PATCH_KERNEL, SAME, Row, Table, linear


def _norm(path: str, name: str) -> tuple[Row, ...]:
  return tuple(
    (f"{path}/{part}", f"{name}.{part}", SAME) for part in ("weight", "bias")
  )


def _merger(path: str, name: str) -> tuple[Row, ...]:
  return (
    *_norm(f"{path}/norm", f"{name}.norm"),
    *linear(f"{path}/fc1", f"{name}.linear_fc1"),
    *linear(f"{path}/fc2", f"{name}.linear_fc2"),
  )


_BLOCK = "visual.blocks.*"
_PROJECTION = "visual.patch_embed.proj"
_TOWER: tuple[Row, ...] = (
  ("visual/patch_embed/kernel", f"{_PROJECTION}.weight", PATCH_KERNEL),
  ("visual/patch_embed/bias", f"{_PROJECTION}.bias", SAME),
  ("visual/pos_embed/table", "visual.pos_embed.weight", SAME),
  *_norm("visual/blocks/norm1", f"{_BLOCK}.norm1"),
  *_norm("visual/blocks/norm2", f"{_BLOCK}.norm2"),
  *linear("visual/blocks/qkv", f"{_BLOCK}.attn.qkv"),
  *linear("visual/blocks/proj", f"{_BLOCK}.attn.proj"),
  *linear("visual/blocks/fc1", f"{_BLOCK}.mlp.linear_fc1"),
  *linear("visual/blocks/fc2", f"{_BLOCK}.mlp.linear_fc2"),
  *_merger("visual/merger", "visual.merger"),
  *_merger("visual/deepstack", "visual.deepstack_merger_list.*"),
)
TABLE = Table((*_TOWER, *names.DECODER), names.WITH_TOWER)
