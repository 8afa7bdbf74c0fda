"""What a compiled program must not do."""

from collections.abc import Sequence

from jaxvlm.plan.hlo import Collective
from jaxvlm.plan.hlo_text import Array


def gathers_of_stacks(
  collectives: Sequence[Collective],
  stacks: Sequence[tuple[int, ...]],
  tensor: int,
) -> list[Collective]:
  """Returns all-gathers that make a parameter of all layers at once.

  Args:
    collectives: of the program.
    stacks: global shapes [L, a, b] of the stacked matrices.
    tensor: size of the tensor axis, which may stay split.
  """
  whole = {
    tuple(sorted((layers, a // i, b // j)))
    for layers, a, b in stacks
    for i, j in ((1, 1), (tensor, 1), (1, tensor))
  }
  return [
    c
    for c in collectives
    if c.kind == "all-gather"
    and tuple(sorted(d for d in c.array.dims if d > 1)) in whole
  ]


def gathers_of_logits(
  collectives: Sequence[Collective],
  tokens: int,
  vocab_sizes: Sequence[int],
  heads: Sequence[tuple[int, ...]],
) -> list[Collective]:
  """Returns collectives that make float32 logits of all tokens.

  Args:
    collectives: of the program.
    tokens: scored in a micro-batch, over all devices.
    vocab_sizes: columns that logits may have.
    heads: shapes of the projections, which look alike.
  """
  known = {tuple(sorted(shape)) for shape in heads}

  def is_logits(array: Array) -> bool:
    dims = tuple(sorted(d for d in array.dims if d > 1))
    rows = [array.size // v for v in vocab_sizes if v in dims]
    return (
      array.dtype == "f32"
      and dims not in known
      and max(rows, default=0) >= tokens
    )

  return [c for c in collectives if is_logits(c.array)]
