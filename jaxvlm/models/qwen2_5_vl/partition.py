"""How the parameters of Qwen2.5-VL lie on a mesh.

A decoder's matrix is cut twice. `fsdp` cuts the side of the hidden width, a
multiple of 256 in every published size; a layer is collected along it when
its turn comes. `tensor` cuts the other side: heads and hidden units of the MLP
(columns of what reads the stream, rows of what writes to it), so that a layer
sums over devices twice. Vectors are whole everywhere. Training collects a layer
at a time, forward and again backward; a decode loop reads what was collected
before it (`model.decoding`).
"""

import functools
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from jaxvlm import sharding
from jaxvlm.sharding import ROWS, Rules, constrain

_LAYER = r"(?:\d+/)?"  # unstacked layers are numbered
_DECODER = f"model/layers/{_LAYER}"
_BLOCK = f"visual/blocks/{_LAYER}"
_READS = f"(?:{_DECODER}(?:q_proj|k_proj|v_proj|mlp/gate_proj|mlp/up_proj)"
_READS += f"|{_BLOCK}mlp/(?:gate_proj|up_proj)|visual/merger/fc1)"
_WRITES = f"(?:{_DECODER}(?:o_proj|mlp/down_proj)"
_WRITES += f"|{_BLOCK}(?:proj|mlp/down_proj)|visual/merger/fc2)"
# One matrix makes q, k and v: a cut of its columns would not follow heads.
_MIXED = f"{_BLOCK}qkv"
_KERNEL = "/kernel(?:_int8)?"

RULES: Rules = (
  # The vocabulary over `tensor`: logits and their softmax stay cut.
  ("model/embed_tokens", P("tensor", "fsdp")),
  ("model/lm_head", P("fsdp", "tensor")),
  ("visual/patch_embed" + _KERNEL, P(None, "fsdp")),
  (_READS + _KERNEL, P("fsdp", "tensor")),
  (_WRITES + _KERNEL, P("tensor", "fsdp")),
  (_MIXED + _KERNEL, P(("fsdp", "tensor"), None)),
  (_READS + "/lora_a", P("fsdp", None)),
  # The rank is cut where the width is not: at 72B and rank 64, whole adapters
  # and their moments would be 6 GiB on every device.
  (_READS + "/lora_b", P("fsdp", "tensor")),
  (_WRITES + "/lora_a", P("tensor", "fsdp")),
  (_WRITES + "/lora_b", P(None, "fsdp")),
  (_MIXED + "/lora_a", P("fsdp", None)),
  (_MIXED + "/lora_b", P(None, "fsdp")),
  ("visual/patch_embed/lora_a", P(None, None)),
  ("visual/patch_embed/lora_b", P(None, "fsdp")),
  # Norms, biases, and the scales of int8 columns.
  (r"(?:model|visual)/.*/(?:weight|bias|kernel_scale|lora_scale)", P()),
)

# (parameters of one layer or module, dtype=) -> the same, whole along `fsdp`.
layer = functools.partial(sharding.collect, RULES, "model/layers")
block = functools.partial(sharding.collect, RULES, "visual/blocks")
merger = functools.partial(sharding.collect, RULES, "visual/merger")
patch_embed = functools.partial(sharding.collect, RULES, "visual/patch_embed")


def embed(table: jax.Array, tokens: jax.Array, dtype: Any) -> jax.Array:
  """Returns the rows of `table` [V, D] at `tokens` i32[N, …]: [N, …, D].

  Every device looks its piece of the width up for all prompts of its copy,
  then pieces and prompts change places: the table is never collected, nor is
  its gradient.
  """
  x = table[constrain(tokens, "data")].astype(dtype)
  pieces = (None,) * (tokens.ndim - 1) + ("fsdp",)
  return constrain(constrain(x, "data", *pieces), ROWS)


def whole_head(name: str, matrix: jax.Array) -> jax.Array:
  """Returns the output projection whole along `fsdp`, words over `tensor`.

  Args:
    name: "lm_head" [D, V], or "embed_tokens" [V, D] where the two are tied.
    matrix: the parameter.
  """
  words = (None, "tensor") if name == "lm_head" else ("tensor", None)
  return constrain(matrix, *words)
