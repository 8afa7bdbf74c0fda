"""HBM traffic of single instructions of optimized HLO.

Operands plus results, where a slice costs what it takes and not what it is
taken from, an update in place what it changes, and buffers that the compiler
keeps on the chip nothing.
"""

import re
from collections.abc import Iterator

from jaxvlm.plan.hlo_text import Instruction, Module

COLLECTIVES = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
# Names, views and book-keeping: nothing is read or written.
FREE = frozenset(
  "parameter constant tuple get-tuple-element bitcast after-all partition-id"
  " replica-id opt-barrier domain iota add-dependency".split()
)
_ALIASES = re.compile(r"output_to_operand_aliasing=\{(.*?\))\}")
_SLICES = ("dynamic-slice", "slice", "gather")


def plain_bytes(one: Instruction, scope: dict[str, Instruction]) -> int:
  """Returns the bytes of an instruction that is not fused."""
  if one.opcode in FREE or one.opcode.endswith(("-done", "-update")):
    return 0
  if one.opcode in _SLICES:
    return _taken(one, scope) + one.hbm_bytes
  if one.opcode == "dynamic-update-slice":
    return 2 * _update(one, scope)
  read = sum(scope[o].hbm_bytes for o in one.operands if o in scope)
  if one.opcode in ("copy-start", "slice-start"):
    # Both sides stand in the shape, in either order: the smaller one moves.
    sides = [a for a in one.arrays if a.dims]
    moved = min((a.bytes for a in sides), default=0)
    return moved * sum(a.in_hbm for a in sides)
  if one.opcode.endswith("-start"):
    return read
  return read + one.hbm_bytes


def _taken(one: Instruction, scope: dict[str, Instruction]) -> int:
  """Bytes a slice reads from HBM: those it makes, if its source is there."""
  source = scope.get(one.operands[0])
  if source is None or source.hbm_bytes == 0:
    return 0
  return sum(a.bytes for a in one.arrays)


def _update(one: Instruction, scope: dict[str, Instruction]) -> int:
  """Bytes an update in place writes."""
  update = scope.get(one.operands[1])
  if one.hbm_bytes == 0 or update is None:
    return 0
  return sum(a.bytes for a in update.arrays)


def fusion_bytes(module: Module, one: Instruction, scope) -> int:
  """Returns the bytes of a fusion."""
  name = one.called()["calls"]
  inner = module.computations[name]
  handed_on = _handed_on(one, inner)
  total = 0
  for index, operand in enumerate(one.operands):
    known = operand in scope and scope[operand].hbm_bytes
    if known and index not in handed_on.values():
      total += _read(module, name, index)
  root = next(i for i in inner.values() if i.is_root)
  parts = root.operands if root.opcode == "tuple" else (root.name,)
  if len(parts) != len(one.arrays):
    parts = [None] * len(one.arrays)
  return total + sum(
    _written(module, inner, part) if part else array.bytes
    for i, (part, array) in enumerate(zip(parts, one.arrays, strict=True))
    if array.in_hbm and i not in handed_on
  )


def _handed_on(
  one: Instruction, inner: dict[str, Instruction]
) -> dict[int, int]:
  """Returns result -> operand of buffers that a fusion does not touch.

  Products that run while a collective is under way carry its buffers along.
  """
  if not any(_is_collective(i) for i in inner.values()):
    return {}
  found = _ALIASES.search(one.attributes)
  pairs = re.findall(r"\{(\d*)\}: \((\d+), \{\}", found[1] if found else "")
  return {int(result or 0): int(operand) for result, operand in pairs}


def _is_collective(one: Instruction) -> bool:
  return one.opcode.removesuffix("-start") in COLLECTIVES or (
    one.opcode == "custom-call" and "AsyncCollective" in one.attributes
  )


def _read(module: Module, name: str, index: int) -> int:
  """Bytes that a fused computation reads of its parameter `index`."""
  scope = module.computations[name]
  parameter = next(
    i
    for i in scope.values()
    if i.opcode == "parameter" and i.operands[0] == str(index)
  )
  whole = _size(parameter)
  total = 0
  for user, alias in _uses(module, parameter.name, scope):
    if user.opcode == "fusion":
      total += sum(
        _read(module, user.called()["calls"], i)
        for i, operand in enumerate(user.operands)
        if operand == alias
      )
    elif user.operands[0] == alias and user.opcode in _SLICES:
      total += _size(user)
    elif user.operands[0] != alias or user.opcode != "dynamic-update-slice":
      return whole
  return min(total, whole)


def _written(module: Module, scope: dict[str, Instruction], name: str) -> int:
  """Bytes that a fused computation writes for its value `name`."""
  one = scope[name]
  if one.opcode == "bitcast" and one.operands[0] in scope:
    return _written(module, scope, one.operands[0])
  if one.opcode == "dynamic-update-slice":
    return _size(scope[one.operands[1]])
  if one.opcode == "fusion" and len(one.arrays) == 1:
    inner = module.computations[one.called()["calls"]]
    root = next(i.name for i in inner.values() if i.is_root)
    return _written(module, inner, root)
  return _size(one)


def _size(one: Instruction) -> int:
  return sum(a.bytes for a in one.arrays)


def _uses(
  module: Module, name: str, scope: dict[str, Instruction]
) -> Iterator[tuple[Instruction, str]]:
  """Yields (who reads a value, under which name), through views of it."""
  for user in scope.values():
    if name not in user.operands:
      continue
    if user.opcode == "bitcast" or _is_view(module, user, name):
      yield from _uses(module, user.name, scope)
    else:
      yield user, name


def _is_view(module: Module, one: Instruction, operand: str) -> bool:
  """Returns whether a fusion hands an operand on and does nothing else."""
  if one.opcode != "fusion":
    return False
  inner = module.computations[one.called()["calls"]]
  value = next(i for i in inner.values() if i.is_root)
  while value.opcode == "bitcast" and value.operands[0] in inner:
    value = inner[value.operands[0]]
  return (
    value.opcode == "parameter"
    and one.operands[int(value.operands[0])] == operand
  )
