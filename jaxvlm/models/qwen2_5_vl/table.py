"""The tensors of a Qwen2.5-VL folder."""

from typing import Any

import numpy as np

from jaxvlm.models import names
from jaxvlm.models.names import SAME, Row, Table, Transform, linear


def _patches(x: np.ndarray) -> np.ndarray:
  """Conv3d kernel (D, C, t, p, p) to a matrix (C·t·p·p, D)."""
  return x.reshape(x.shape[0], -1).T


def _conv3d(config: Any, x: np.ndarray) -> np.ndarray:
  g = config.layout
  return x.T.reshape(-1, g.channels, g.temporal_patch, g.patch, g.patch)


_PATCH_KERNEL = Transform(
  _patches,
  lambda stored, index: _patches(stored[index[1:]])[index[0]],
  _conv3d,
)
_BLOCK = "visual.blocks.*"
_TOWER: tuple[Row, ...] = (
  (
    "visual/patch_embed/kernel",
    "visual.patch_embed.proj.weight",
    _PATCH_KERNEL,
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

# Decoder and tower have had two names over the years: the reader accepts both
# (`names.canonical_name`), transformers 5 writes these.
TABLE = Table(
  (*_TOWER, *names.DECODER),
  {
    "visual.": "model.visual.",
    "language_model.": "model.language_model.",
  },
)
