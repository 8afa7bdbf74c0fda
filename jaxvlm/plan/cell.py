"""One cell of the plan: a setting, compiled, and what was found in it."""

import dataclasses
import hashlib
import importlib.metadata
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxvlm import models, sharding
from jaxvlm.models import attention
from jaxvlm.models import flops as model_flops
from jaxvlm.plan import (
  advice,
  checks,
  hbm,
  hlo,
  hlo_text,
  jaxpr_flops,
  programs,
  topology,
)
from jaxvlm.plan.roofline import Roofline, roofline
from jaxvlm.plan.setting import Objective, Setting
from jaxvlm.typing import PyTree


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes on one chip.

  Attributes:
    parameters: trainable ones.
    optimizer: its state.
    frozen: base, reference, teacher; all weights of a rollout.
    batch: inputs.
    temporaries: activations, gradients, collected layers: the most that live
      at once.
    peak: all of it, by the compiler.
    hbm: what the compiler lets a program use.
  """

  parameters: int
  optimizer: int
  frozen: int
  batch: int
  temporaries: int
  peak: int
  hbm: int

  @property
  def share(self) -> float:
    return self.peak / self.hbm


@dataclasses.dataclass(frozen=True)
class Flops:
  """FLOPs of one step on the whole slice.

  Attributes:
    vision: of the model, forward and backward, without recomputation.
    decoder: likewise.
    head: likewise.
    frozen: of teacher or reference, all parts.
    executed: counted in the program: recomputation, whole squares of causal
      attention.
  """

  vision: float
  decoder: float
  head: float
  frozen: float
  executed: float

  @property
  def model(self) -> float:
    return self.vision + self.decoder + self.head + self.frozen


@dataclasses.dataclass(frozen=True)
class Communication:
  """Collectives of one kind, on one chip in one step."""

  kind: str
  count: int
  bytes: float
  largest: str


@dataclasses.dataclass(frozen=True)
class Report:
  """A cell that fits.

  Attributes:
    devices: of the slice.
    memory: per chip.
    flops: per step and slice.
    hbm_bytes: read and written, per chip and step.
    communication: by kind, the heaviest first.
    bounds: the roofline of a chip.
    faults: what the checks of the compiled text found wrong.
    buffers: the largest values made, (GiB, shape, where).
    lower_seconds: tracing and lowering.
    compile_seconds: XLA.
    cpu_seconds: of the processor for both, whatever else it had to do.
  """

  devices: int
  memory: Memory
  flops: Flops
  hbm_bytes: float
  communication: tuple[Communication, ...]
  bounds: Roofline
  faults: tuple[str, ...]
  buffers: tuple[tuple[float, str, str], ...]
  lower_seconds: float
  compile_seconds: float
  cpu_seconds: float


@dataclasses.dataclass(frozen=True)
class Misfit:
  """A cell that does not fit.

  Attributes:
    devices: of the slice.
    needed: bytes per chip.
    available: bytes per chip.
    reason: the compiler's words.
    advice: what to change, the most promising first.
  """

  devices: int
  needed: int
  available: int
  reason: str
  advice: tuple[str, ...]


# What is compiled for a setting on a mesh.
Build = Callable[[Setting, jax.sharding.Mesh], programs.Program]


def measure(
  setting: Setting, hlo_file: str = "", build: Build = programs.build
) -> Report | Misfit:
  """Compiles a setting for its slice and returns what it takes.

  Args:
    setting: what to compile.
    hlo_file: where to write the optimized HLO; empty: nowhere.
    build: the program, which a study brings with it.

  Raises:
    ValueError: an unknown slice, a mesh or a batch that does not fit it.
  """
  slice_, mesh, program = _program(setting, build)
  with jax.set_mesh(mesh):
    start, busy = time.perf_counter(), time.process_time()
    traced = program.function.trace(*program.args)
    lowered = traced.lower()
    middle = time.perf_counter()
    try:
      compiled, text = _compile(lowered)
    except jax.errors.JaxRuntimeError as e:
      if "RESOURCE_EXHAUSTED" not in str(e):
        raise
      return _misfit(setting, slice_, mesh, program, str(e))
    done, busy = time.perf_counter(), time.process_time() - busy
  executed = jaxpr_flops.count_jaxpr(
    traced.jaxpr, trips=program.trips, shares=_shares(setting)
  )
  memory = _memory(program, compiled.memory_analysis(), slice_.chip.hbm)
  if memory.peak > memory.hbm:
    peak = f"peak of ({memory.peak / topology.GIB:.2f}G)"
    return _misfit(setting, slice_, mesh, program, peak)
  if hlo_file:
    pathlib.Path(hlo_file).write_text(text)
  module = hlo_text.parse(text)
  moved = hlo.traffic(module)
  flops = _flops(setting, executed)
  return Report(
    devices=slice_.devices,
    memory=memory,
    flops=flops,
    hbm_bytes=moved.hbm_bytes,
    communication=_communication(moved),
    bounds=roofline(
      slice_.chip,
      flops=flops.executed / slice_.devices,
      model_flops=flops.model / slice_.devices,
      hbm_bytes=moved.hbm_bytes,
      wire_bytes=sum(sent for _, sent in moved.by_kind().values()),
    ),
    faults=_faults(setting, mesh, program, moved, compiled.memory_analysis()),
    buffers=tuple(
      (a.bytes / topology.GIB, f"{a.dtype}{list(a.dims)}", where)
      for where, a in hlo.largest_buffers(module)
    ),
    lower_seconds=middle - start,
    compile_seconds=done - middle,
    cpu_seconds=busy,
  )


def fingerprint(setting: Setting, build: Build = programs.build) -> str:
  """Returns a digest of all that decides what is found in a cell.

  The lowered program, without the code of its kernels, in which places in
  source files stand; in their place, the file that builds them. The compiler's
  version, and the rules by which its program is read.
  """
  _, mesh, program = _program(setting, build)
  with jax.set_mesh(mesh):
    text = program.function.lower(*program.args).as_text()
  digest = hashlib.sha256(_KERNEL.sub("", text).encode())
  for module in (attention, hbm, hlo, hlo_text, jaxpr_flops, model_flops):
    digest.update(pathlib.Path(module.__file__).read_bytes())
  for package in ("jax", "jaxlib", "libtpu"):
    digest.update(importlib.metadata.version(package).encode())
  return digest.hexdigest()[:16]


def _program(setting: Setting, build: Build):
  """Returns (slice, mesh, program) of a setting."""
  slice_ = topology.parse(setting.topology)
  mesh = sharding.make_mesh(setting.mesh, topology.devices(slice_))
  return slice_, mesh, build(setting, mesh)


def chip_bytes(tree: PyTree) -> int:
  """Returns the bytes that one device holds of a tree of sharded shapes."""

  def one(x) -> int:
    size = 1
    for side in x.sharding.shard_shape(x.shape):
      size *= side
    return size * x.dtype.itemsize

  return sum(one(x) for x in jax.tree.leaves(tree))


def _held(program: programs.Program) -> dict[str, int]:
  """Returns bytes per chip of what is in memory before the step."""
  return {name: chip_bytes(tree) for name, tree in program.trees.items()}


def _memory(program, analysis: Any, hbm: int) -> Memory:
  held = _held(program)
  total = (
    analysis.argument_size_in_bytes
    + analysis.output_size_in_bytes
    - analysis.alias_size_in_bytes
    + analysis.temp_size_in_bytes
  )
  return Memory(
    parameters=held.get("parameters", 0),
    optimizer=held.get("optimizer", 0),
    frozen=held.get("frozen", 0),
    batch=held.get("batch", 0),
    temporaries=analysis.temp_size_in_bytes,
    peak=max(total, getattr(analysis, "peak_memory_in_bytes", 0)),
    hbm=hbm,
  )


def _shares(setting: Setting) -> Sequence[float] | None:
  """Returns how often a layer of the tower takes each of its branches."""
  tower = models.family_of(setting.model).tower
  return None if tower is None else tower.shares(setting.model)


def _flops(s: Setting, executed: float) -> Flops:
  shapes = model_flops.Shapes(
    s.prompts, s.group, s.prompt_tokens, s.completion_tokens, s.patches
  )
  rollout = s.objective is Objective.ROLLOUT
  count = models.rollout_flops if rollout else models.forward_flops
  once = count(s.model, shapes, vocab_size=s.vocab_size)
  frozen = 0.0
  if s.teacher is not None:
    frozen += count(s.teacher, shapes, vocab_size=s.vocab_size).total
  if s.reads_reference:
    frozen += once.total
  # Forward 1; backward 1 toward what comes before, 1 for the matrix itself.
  matrix = 0 if s.lora_rank else 1
  back = 0 if rollout else 1
  vision = 1 if s.freeze_vision else 1 + back * (1 + matrix)
  rest = 1 + back * (1 + matrix)
  trained = once.scaled(vision, rest, rest)
  return Flops(trained.vision, trained.decoder, trained.head, frozen, executed)


def _communication(moved: hlo.Traffic) -> tuple[Communication, ...]:
  return tuple(
    Communication(
      kind,
      count,
      sent,
      next(
        f"{c.array.dtype}{list(c.array.dims)} × {c.count}"
        for c in moved.collectives
        if c.kind == kind
      ),
    )
    for kind, (count, sent) in moved.by_kind().items()
  )


def _faults(setting, mesh, program, moved, analysis) -> tuple[str, ...]:
  """Returns what the compiled text does that it must not do."""
  weights = [
    leaf
    for name in ("parameters", "frozen")
    for leaf in jax.tree.leaves(program.trees.get(name, ()))
  ]
  found = [
    f"all-gather of all layers at once: {c.array.dtype}{list(c.array.dims)}"
    for c in checks.gathers_of_stacks(
      moved.collectives,
      [x.shape for x in weights if len(x.shape) == 3],
      mesh.shape["tensor"],
    )
  ]
  models = [m for m in (setting.model, setting.teacher) if m]
  rows = setting.prompts * setting.group * setting.completion_tokens
  found += [
    f"float32 logits of all tokens: {c.kind} of {list(c.array.dims)}"
    for c in checks.gathers_of_logits(
      moved.collectives,
      rows // setting.micro_batches,
      [setting.vocab_size, *(m.vocab_size for m in models)],
      [
        (m.hidden_size, v)
        for m in models
        for v in (setting.vocab_size, m.vocab_size)
      ],
    )
  ]
  state = sum(
    chip_bytes(program.trees.get(name, ()))
    for name in ("parameters", "optimizer")
  )
  found += [
    f"a loop of unknown length counts once: {name}"
    for name in moved.unknown_loops
  ]
  if analysis.alias_size_in_bytes < 0.99 * state:
    found.append(
      f"donation: {analysis.alias_size_in_bytes} of {state} bytes of the state"
      " are updated in place"
    )
  return tuple(found)


_KERNEL = re.compile(r'backend_config = "(?:[^"\\]|\\.)*"')
_NEEDED = re.compile(r"\(([\d.]+)([KMGT])\)")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def _compile(lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, str]:
  """Returns the program and the optimized HLO as the compiler writes it.

  `compiled.as_text()` reads the same module back with JAX's own XLA, which is
  older than libtpu's and refuses asynchronous operations of v6e and v5p.
  """
  with tempfile.TemporaryDirectory() as folder:
    compiled = lowered.compile(
      compiler_options={"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
    )
    (file,) = pathlib.Path(folder).glob("*.after_codegen.txt")
    return compiled, file.read_text()


def _misfit(setting, slice_, mesh, program, message: str) -> Misfit:
  sizes = [float(n) * _UNITS[u] for n, u in _NEEDED.findall(message)]
  return Misfit(
    devices=slice_.devices,
    needed=int(sizes[0]) if sizes else 0,
    available=slice_.chip.hbm,
    reason=message.splitlines()[0],
    advice=advice.advice(setting, _held(program), slice_, mesh.shape),
  )
