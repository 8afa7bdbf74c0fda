"""Results as text for people and as JSON for programs."""

import dataclasses
import enum
from collections.abc import Iterator
from typing import Any

from jaxvlm.plan.cell import Misfit, Report
from jaxvlm.plan.setting import Objective, Setting
from jaxvlm.plan.topology import GIB


def describe(setting: Setting, result: Report | Misfit) -> str:
  """Returns one cell as a page of text."""
  if isinstance(result, Misfit):
    lines = _misfit(result)
  else:
    lines = _report(setting, result)
  return "\n".join((_title(setting, result), *lines))


def to_json(setting: Setting, result: Report | Misfit) -> dict[str, Any]:
  """Returns one cell as what JSON can hold; sizes in bytes, times in s."""
  return {
    "fits": isinstance(result, Report),
    "setting": _plain(setting),
    "result": _plain(result),
  }


def _title(s: Setting, result: Report | Misfit) -> str:
  tokens = f"{s.prompt_tokens} + {s.group} × {s.completion_tokens} tokens"
  return (
    f"{s.objective.name.lower()} on {s.topology} ({result.devices} chips):"
    f" {s.prompts} prompts of {tokens}, {s.patches} patches"
    + ("" if s.objective is Objective.ROLLOUT else f"; {_parts(s)}")
  )


def _parts(s: Setting) -> str:
  parts = "part" if s.micro_batches == 1 else "parts"
  return f"{s.micro_batches} {parts}, remat {s.remat.name.lower()}"


def _misfit(m: Misfit) -> Iterator[str]:
  yield (
    f"  DOES NOT FIT: needs {m.needed / GIB:.2f} GiB per chip,"
    f" {m.available / GIB:.2f} GiB are available"
  )
  yield f"  {m.reason}"
  yield "  what to change:"
  yield from (f"    {line}" for line in m.advice)


def _report(s: Setting, r: Report) -> Iterator[str]:
  m = r.memory
  yield "  memory per chip            GiB"
  for name in ("parameters", "optimizer", "frozen", "batch", "temporaries"):
    yield f"    {name:18s}{getattr(m, name) / GIB:10.2f}"
  yield (
    f"    {'peak':18s}{m.peak / GIB:10.2f}   {m.share:.0%} of {m.hbm / GIB:.2f}"
  )
  yield "  FLOPs per step           TFLOP"
  for name in ("vision", "decoder", "head", "frozen", "model", "executed"):
    yield f"    {name:18s}{getattr(r.flops, name) / 1e12:10.1f}"
  yield "  collectives per chip   count        GB   largest"
  for c in r.communication:
    yield f"    {c.kind:19s}{c.count:6d}{c.bytes / 1e9:10.3f}   {c.largest}"
  yield "  lower bounds             ms"
  b = r.bounds
  for name, what in (
    ("compute", f"{r.flops.executed / r.devices / 1e12:.2f} TFLOP"),
    ("memory", f"{r.hbm_bytes / 1e9:.1f} GB of HBM traffic"),
    ("network", f"{sum(c.bytes for c in r.communication) / 1e9:.2f} GB sent"),
  ):
    mark = "  <- bound" if name == b.bound else ""
    yield f"    {name:14s}{1e3 * getattr(b, name):12.1f}   {what}{mark}"
  yield f"    model FLOPs at that bound: {b.mfu:.0%} of the peak"
  if s.objective is Objective.ROLLOUT:
    new = s.prompts * s.group * s.completion_tokens
    yield f"    at most {new / b.seconds:,.0f} new tokens/s"
  yield "  checks: " + ("; ".join(r.faults) if r.faults else "all passed")
  yield "  largest buffers"
  for size, shape, where in r.buffers[:5]:
    yield f"    {size:6.2f} GiB  {shape}  {where[-70:]}"
  yield (
    f"  traced in {r.lower_seconds:.1f} s, compiled in"
    f" {r.compile_seconds:.1f} s ({r.cpu_seconds:.1f} s of CPU)"
  )


def _plain(value: Any) -> Any:
  if dataclasses.is_dataclass(value):
    fields = [f for f in dataclasses.fields(value) if f.compare]
    plain = {f.name: _plain(getattr(value, f.name)) for f in fields}
    properties = {"Memory": "share", "Flops": "model"}
    extra = properties.get(type(value).__name__)
    return plain | ({extra: getattr(value, extra)} if extra else {})
  if isinstance(value, enum.Enum):
    return value.name.lower()
  if isinstance(value, tuple | list):
    return [_plain(x) for x in value]
  return value
