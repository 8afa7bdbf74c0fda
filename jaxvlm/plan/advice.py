"""What to change when a program does not fit."""

from collections.abc import Mapping

from jaxvlm.models.remat import Remat
from jaxvlm.plan.setting import REFERENCED, Objective, Setting
from jaxvlm.plan.topology import Topology
from jaxvlm.train.optimizer import Precision, Rule

# From this share of the memory on, a part is worth making smaller.
_LARGE = 0.25


def advice(
  s: Setting,
  held: Mapping[str, int],
  slice_: Topology,
  sizes: Mapping[str, int],
) -> tuple[str, ...]:
  """Returns what would lower the peak, the most promising first.

  Args:
    s: what did not fit.
    held: bytes per chip of parameters, optimizer, frozen, batch.
    slice_: where it did not fit.
    sizes: devices along each axis of the mesh.
  """
  trained = held.get("parameters", 0) + held.get("optimizer", 0)
  frozen = held.get("frozen", 0)
  hbm = slice_.chip.hbm
  found = []
  if trained > _LARGE * hbm:
    found += _smaller_state(s)
  if (
    frozen > _LARGE * hbm
    and not s.int8_teacher
    and (s.teacher is not None or s.objective in REFERENCED)
  ):
    found.append("--int8_teacher: half the bytes of what is frozen")
  if trained + frozen > _LARGE * hbm and sizes["data"] > 1:
    found.append(
      f"--mesh.data=1 --mesh.fsdp=-1: no copies (now {sizes['data']})"
    )
  if s.objective is Objective.ROLLOUT:
    found += [
      f"--prompts: fewer than {s.prompts} at a time: keys and values grow with"
      " prompts × group × length",
      "--mesh.tensor: more devices share the heads of one completion",
    ]
  else:
    found += _smaller_activations(s, sizes)
  found.append(f"a larger slice than {slice_.name} ({slice_.devices} devices)")
  return tuple(found)


def _smaller_state(s: Setting) -> list[str]:
  found = []
  if not s.lora_rank:
    found.append("--lora_rank=64: adapters instead of matrices")
    if s.model.layout is not None and not s.freeze_vision:
      found.append("--freeze_vision: no moments for the vision tower")
  if s.optimizer.rule is Rule.ADAMW:
    if s.optimizer.first_moment is Precision.FLOAT32:
      found.append("--first_moment=bfloat16: 10 bytes a parameter, not 12")
    found.append("--rule=adafactor: 4 bytes a parameter, not 12")
  return found


def _smaller_activations(s: Setting, sizes: Mapping[str, int]) -> list[str]:
  found = []
  if s.remat in (Remat.NONE, Remat.SAVE_PROJECTIONS):
    found.append(f"--remat=full: keep less per layer than {s.remat.name}")
  elif s.remat is Remat.FULL:
    found.append("--remat=offload: layer inputs in the host's memory")
  rows = sizes["data"] * sizes["fsdp"]
  if s.prompts // s.micro_batches >= 2 * rows:
    found.append(
      f"--micro_batches={2 * s.micro_batches}: now"
      f" {s.prompts // s.micro_batches // rows} prompts at once per chip"
    )
  if sizes["tensor"] == 1 and sizes["fsdp"] > 1:
    found.append("--mesh.tensor=2: activations of a row over two chips")
  return found
