"""What a compiled program moves: collectives, HBM traffic, large buffers.

Read from the optimized HLO of one device. A loop's body counts as often as
the loop runs.
"""

import dataclasses
import math
import re

from jaxvlm.plan import hbm
from jaxvlm.plan.hlo_text import Array, Instruction, Module


@dataclasses.dataclass(frozen=True)
class Collective:
  """One communication of one device.

  Attributes:
    kind: all-gather, all-reduce, reduce-scatter, all-to-all or
      collective-permute.
    array: the largest array it makes (of a reduce-scatter: it takes).
    group: devices that take part.
    count: how often it runs in a step.
    wire_bytes: what a ring sends per device and run.
    where: the operation of the source that asked for it.
  """

  kind: str
  array: Array
  group: int
  count: int
  wire_bytes: float
  where: str


@dataclasses.dataclass(frozen=True)
class Traffic:
  """Sums over one step of one device.

  Attributes:
    hbm_bytes: read and written.
    collectives: every communication.
    unknown_loops: loops whose number of runs nothing tells; they count once.
  """

  hbm_bytes: float
  collectives: tuple[Collective, ...]
  unknown_loops: tuple[str, ...]

  def by_kind(self) -> dict[str, tuple[int, float]]:
    """Returns kind -> (runs, bytes sent), the heaviest first."""
    sums: dict[str, tuple[int, float]] = {}
    for c in self.collectives:
      runs, sent = sums.get(c.kind, (0, 0.0))
      sums[c.kind] = (runs + c.count, sent + c.count * c.wire_bytes)
    return dict(sorted(sums.items(), key=lambda item: -item[1][1]))


def traffic(module: Module) -> Traffic:
  """Returns what a run of `module` moves."""
  seen: set[str] = set()
  collectives, unknown = [], []

  def collect(name: str, times: int, kind_hint: str = "") -> float:
    total = 0.0
    scope = module.computations[name]
    for one in scope.values():
      base = one.opcode.removesuffix("-start")
      if base in hbm.COLLECTIVES:
        found = _collective(one, base, times, scope, kind_hint)
        # The steps of an asynchronous collective repeat it under its channel.
        if found.array.size and _channel(one) not in seen:
          seen.add(_channel(one))
          collectives.append(found)
      called = one.called()
      if one.opcode == "while":
        trips = module.trips(one)
        if trips is None:
          unknown.append(one.name)
        total += collect(called["body"], times * (trips or 1))
      elif one.opcode == "conditional":
        total += max(collect(c, times) for c in called.values())
      elif one.opcode == "fusion":
        collect(called["calls"], times, one.name + called["calls"])
        total += times * hbm.fusion_bytes(module, one, scope)
      elif one.opcode in ("call", "async-start"):
        inner = called.get("to_apply", called.get("calls"))
        total += collect(inner, times)
      else:
        total += times * hbm.plain_bytes(one, scope)
    return total

  total = collect(module.entry, 1)
  collectives.sort(key=lambda c: -c.count * c.wire_bytes)
  return Traffic(total, tuple(collectives), tuple(unknown))


def largest_buffers(module: Module, count: int = 8) -> list[tuple[str, Array]]:
  """Returns (source operation, array) of the largest values made in HBM."""
  fused = {
    i.called()["calls"]
    for scope in module.computations.values()
    for i in scope.values()
    if i.opcode == "fusion"
  }
  found: dict[tuple[str, Array], None] = {}
  for name, scope in module.computations.items():
    if name in fused:
      continue
    for one in scope.values():
      if one.opcode in hbm.FREE or one.opcode in ("while", "conditional"):
        continue
      for array in one.arrays:
        if array.in_hbm:
          found[_source(one), array] = None
  return sorted(found, key=lambda pair: -pair[1].bytes)[:count]


def _collective(one, kind, times, scope, hint) -> Collective:
  made = one.arrays
  taken = [a for o in one.operands if o in scope for a in scope[o].arrays]
  if one.opcode.endswith("-start"):
    # (what it takes, what it makes, flags): the larger half is the result.
    made = [a for a in made if a.dims][len(taken) :] or made
  largest = max(made, key=lambda a: a.bytes, default=Array("token", ()))
  group = _group(one.attributes)
  # One instruction may carry several arrays: the compiler joins small ones.
  size = sum(a.bytes for a in made)
  if kind == "all-reduce" and "all-reduce-scatter" in hint:
    kind = "reduce-scatter"
  elif kind == "reduce-scatter":
    size = sum(a.bytes for a in taken) or size * group
  share = (group - 1) / group
  wire = {
    "all-gather": size * share,
    "reduce-scatter": size * share,
    "all-reduce": 2 * size * share,
    "all-to-all": size * share,
    "collective-permute": float(size),
  }[kind]
  return Collective(kind, largest, group, times, wire, _source(one))


def _group(attributes: str) -> int:
  """Returns the size of the groups that `replica_groups` names."""
  mesh = re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", attributes)
  if mesh:
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
    names = re.findall(r"'(\w+)'", mesh[2])
    return math.prod(int(sizes[n]) for n in names) if names else 1
  iota = re.search(r"replica_groups=\[(\d+),(\d+)\]", attributes)
  if iota:
    return int(iota[2])
  listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
  if listed:
    return len(listed[1].split(","))
  return 2  # collective-permute names pairs


def _channel(one: Instruction) -> str:
  found = re.search(r"channel_id=(\d+)", one.attributes)
  return found[1] if found else one.name


def _source(one: Instruction) -> str:
  found = re.search(r'op_name="([^"]*)"', one.attributes)
  return found[1] if found else one.name
