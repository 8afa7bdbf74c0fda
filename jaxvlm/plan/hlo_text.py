"""Optimized HLO text as computations of instructions.

Only what the planner asks for is read: names, shapes with their memory space,
opcodes, operands, called computations and how often loops run. The text comes
after scheduling and partitioning, so shapes are those of one device.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "s4": 4, "u4": 4, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](?:\{([^}]*)\})?")
_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_NAMED = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = (.*)")
_COMMENT = re.compile(r"/\*.*?\*/")
_CALLED = re.compile(
  r"\b(calls|body|condition|to_apply|true_computation|false_computation)="
  r"%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_INDEX = re.compile(r"\bindex=(\d+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Array:
  """One array of one device.

  Attributes:
    dtype: as XLA writes it: bf16, f32, s32, …
    dims: its shape.
    in_hbm: False where the compiler keeps it in on-chip memory.
  """

  dtype: str
  dims: tuple[int, ...]
  in_hbm: bool = True

  @property
  def size(self) -> int:
    return math.prod(self.dims)

  @property
  def bytes(self) -> int:
    return math.ceil(self.size * _bits(self.dtype) / 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """`name = shape opcode(operands), attributes`."""

  name: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  attributes: str
  is_root: bool = False

  @functools.cached_property
  def arrays(self) -> tuple[Array, ...]:
    return tuple(arrays(self.shape))

  @property
  def hbm_bytes(self) -> int:
    return sum(a.bytes for a in self.arrays if a.in_hbm)

  def called(self) -> dict[str, str]:
    """Returns role -> computation; branches are named by their number."""
    found = {role: name for role, name in _CALLED.findall(self.attributes)}
    branches = _BRANCHES.search(self.attributes)
    if branches:
      names = branches[1].replace("%", "").split(",")
      found.update({f"branch{i}": n.strip() for i, n in enumerate(names)})
    return found


@dataclasses.dataclass(frozen=True)
class Module:
  """Computations by name, and the one that runs."""

  head: str
  entry: str
  computations: dict[str, dict[str, Instruction]]

  def trips(self, loop: Instruction) -> int | None:
    """Returns how often a while loop runs at most; None if nothing tells.

    The TPU compiler drops its own note of it (`known_trip_count`), but the
    condition still compares a counter from 0 with a constant.
    """
    known = _TRIPS.search(loop.attributes)
    if known:
      return int(known[1])
    pending, limits = [loop.called()["condition"]], []
    while pending:
      for one in self.computations[pending.pop()].values():
        limits.extend(_integer(one))
        pending.extend(one.called().values())
    if not limits:
      return None
    return math.ceil(max(limits) / self._stride(loop))

  def _stride(self, loop: Instruction) -> int:
    """Returns what a run adds to the counter: an unrolled loop adds more."""
    condition = self.computations[loop.called()["condition"]]
    body = self.computations[loop.called()["body"]]
    (root,) = (one for one in body.values() if one.is_root)
    for one in condition.values():
      place = _INDEX.search(one.attributes)
      after = place and body.get(root.operands[int(place[1])])
      if after and after.opcode == "add":
        added = [
          n for o in after.operands if o in body for n in _integer(body[o])
        ]
        return max(added, default=1)
    return 1


def _integer(one: Instruction) -> list[int]:
  """Returns the value of a constant that may count, or nothing."""
  counts = one.shape.startswith(("s32[]", "u32[]"))
  return [int(one.operands[0])] if one.opcode == "constant" and counts else []


def parse(text: str) -> Module:
  """Returns the module; ValueError without an entry computation."""
  computations: dict[str, dict[str, Instruction]] = {}
  current, entry = None, ""
  for line in _lines(text):
    if current is None:
      head = _HEAD.match(line)
      if head:
        current = computations.setdefault(head[2], {})
        entry = head[2] if head[1] else entry
    elif line.startswith("}"):  # `}, execution_thread="sparsecore"` too
      current = None
    else:
      one = _instruction(line)
      if one:
        current[one.name] = one
  if not entry:
    raise ValueError(
      "HLO text has no ENTRY computation, expected the text of a compiled"
      " program: pass compiled.as_text()"
    )
  return Module(text.split("\n", 1)[0], entry, computations)


def _lines(text: str) -> Iterator[str]:
  """Yields lines; what a kernel's notes broke into several is one again."""
  parts: list[str] = []
  for line in text.splitlines():
    if parts and not line.startswith(("}}", '"')):
      yield "".join(parts)
      parts = []
    parts.append(line.rstrip())
  yield "".join(parts)


def arrays(shape: str) -> Iterator[Array]:
  """Yields the arrays of a shape, which may be a tuple."""
  for dtype, dims, layout in _ARRAY.findall(shape):
    sizes = tuple(int(d) for d in dims.split(",") if d)
    yield Array(dtype, sizes, "S(" not in layout)


def _bits(dtype: str) -> int:
  if dtype in _BITS:
    return _BITS[dtype]
  digits = re.search(r"\d+", dtype)
  return int(digits[0]) if digits else 0


def _instruction(line: str) -> Instruction | None:
  match = _NAMED.match(line)
  if match is None:
    return None
  rest = _COMMENT.sub("", match[3])
  end = _closing(rest) + 1 if rest[0] == "(" else rest.index(" ")
  shape, rest = rest[:end], rest[end:].lstrip()
  start = rest.index("(")
  end = start + _closing(rest[start:])
  inside = rest[start + 1 : end]
  return Instruction(
    name=match[2],
    shape=shape,
    opcode=rest[:start],
    # Operands are %names; a constant or parameter has its value there.
    operands=tuple(re.findall(r"%([\w.\-]+)", inside)) or (inside,),
    attributes=rest[end + 1 :],
    is_root=bool(match[1]),
  )


def _closing(text: str) -> int:
  """Returns where the parenthesis that opens `text` is closed."""
  depth = 0
  for i, char in enumerate(text):
    depth += (char == "(") - (char == ")")
    if depth == 0:
      return i
  raise ValueError(f"unbalanced parentheses in HLO: {text[:80]!r}")
