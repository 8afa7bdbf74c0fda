"""How the parameters of a decoder lie on a mesh.

A matrix is cut twice. `fsdp` cuts the side of the hidden width, a
multiple of 256 in every published size; a layer is collected along it when
its turn comes. `tensor` cuts the other side: heads and hidden units of the MLP
(columns of what reads the stream, rows of what writes to it), so that a layer
sums over devices twice. Vectors are whole everywhere. Training collects a layer
at a time, forward and again backward; a decode loop reads what was collected
before it (`decoder.decoding`).
"""

import functools
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from jaxvlm import sharding
from jaxvlm.sharding import ROWS, Partition, constrain

UNSTACKED = r"(?:\d+/)?"  # unstacked layers are numbered
KERNEL = "/kernel(?:_int8)?"
_LAYER = f"model/layers/{UNSTACKED}"


def matrices(*, reads: str, writes: str) -> Partition:
  """Returns the rules of matrices and of their adapters.

  Args:
    reads: pattern of Linears that read the stream of width D.
    writes: pattern of those that write to it.
  """
  return (
    (reads + KERNEL, P("fsdp", "tensor")),
    (writes + KERNEL, P("tensor", "fsdp")),
    (reads + "/lora_a", P("fsdp", None)),
    # The rank is cut where the width is not: at 72B and rank 64, whole adapters
    # and their moments would be 6 GiB on every device.
    (reads + "/lora_b", P("fsdp", "tensor")),
    (writes + "/lora_a", P("tensor", "fsdp")),
    (writes + "/lora_b", P(None, "fsdp")),
  )


def fused(qkv: str) -> Partition:
  """Returns the rules of one matrix that makes queries, keys and values.

  A cut of its columns would not follow heads.
  """
  return (
    (qkv + KERNEL, P(("fsdp", "tensor"), None)),
    (qkv + "/lora_a", P("fsdp", None)),
    (qkv + "/lora_b", P(None, "fsdp")),
  )


def patches(embed: str) -> Partition:
  """Returns the rules of the matrix that reads pixels."""
  return (
    (embed + KERNEL, P(None, "fsdp")),
    (embed + "/lora_a", P(None, None)),
    (embed + "/lora_b", P(None, "fsdp")),
  )


def vectors(part: str) -> Partition:
  """Returns the rule of norms, biases, and the scales of int8 columns."""
  return ((f"{part}/.*/(?:weight|bias|kernel_scale|lora_scale)", P()),)


RULES: Partition = (
  # The vocabulary over `tensor`: logits and their softmax stay cut.
  ("model/embed_tokens", P("tensor", "fsdp")),
  ("model/lm_head", P("fsdp", "tensor")),
  *matrices(
    reads=f"{_LAYER}(?:q_proj|k_proj|v_proj|mlp/gate_proj|mlp/up_proj)",
    writes=f"{_LAYER}(?:o_proj|mlp/down_proj)",
  ),
  *vectors("model"),
)

# (parameters of one layer, dtype=) -> the same, whole along `fsdp`.
layer = functools.partial(sharding.collect, RULES, "model/layers")


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
