"""Does this step fit that TPU slice? Compiles it for one, without one."""

import dataclasses
import logging
import os

# Before jax: devices of this machine are not asked for.
os.environ["JAX_PLATFORMS"] = "cpu"

from absl import flags

from jaxvlm import config as configs
from jaxvlm import models, program, sharding
from jaxvlm.models.remat import Remat
from jaxvlm.plan import cell, search, setting, table, topology
from jaxvlm.plan.setting import Objective, Setting
from jaxvlm.sharding import MeshConfig
from jaxvlm.tools import output
from jaxvlm.train.optimizer import OptimizerConfig, Precision, Rule

_MODEL = configs.define_path(
  "model", "7b", f"{', '.join(models.PRESETS)}, or a folder with config.json"
)
_TEACHER = configs.define_path("teacher", "", "of opd; as --model")
_OBJECTIVE = flags.DEFINE_enum_class(
  "objective", Objective.SFT, Objective, "what the step does"
)
_TOPOLOGY = flags.DEFINE_string(
  "topology", "v5e:8x8", "chip and sides of the slice"
)
configs.define_flags(MeshConfig(), prefix="mesh")
_PROMPTS = flags.DEFINE_integer("prompts", 64, "prompts per step, all chips")
_GROUP = flags.DEFINE_integer(
  "group", 0, "completions per prompt; 0: 2 for pairs, 8 for grpo and rollout"
)
_PROMPT = flags.DEFINE_integer("prompt_tokens", 1024, "length of a prompt")
_COMPLETION = flags.DEFINE_integer("completion_tokens", 1024, "of an answer")
_PATCHES = flags.DEFINE_integer(
  "patches", None, "image patches per prompt; default: 1024, or 0 where the"
  " model reads text only"
)  # fmt: skip
_MICRO = flags.DEFINE_integer("micro_batches", 1, "parts of a step")
_MASTER = flags.DEFINE_enum_class(
  "master", Precision.FLOAT32, Precision, "format of trained parameters"
)
_MOMENT = flags.DEFINE_enum_class(
  "first_moment", Precision.FLOAT32, Precision, "format of AdamW's momentum"
)
_RULE = flags.DEFINE_enum_class("rule", Rule.ADAMW, Rule, "the optimizer")
_REMAT = flags.DEFINE_enum_class(
  "remat", Remat.FULL, Remat, "what a layer keeps for its backward pass"
)
_LORA = flags.DEFINE_integer("lora_rank", 0, "0: train the matrices")
_FREEZE = flags.DEFINE_bool("freeze_vision", False, "train the decoder only")
_INT8 = flags.DEFINE_bool(
  "int8_teacher", False, "teacher, or the reference of DPO, in 8 bits"
)
_KL = flags.DEFINE_float("kl_coef", 0.0, "of grpo; above 0 reads a reference")
_LAYERS = flags.DEFINE_integer(
  "layers", 0, "decoder layers instead of the model's own; 0: those"
)
_SCAN = flags.DEFINE_bool("scan", True, "layers in a loop; no: unrolled")
_SEARCH = flags.DEFINE_bool(
  "search", False, "find the largest micro-batch and cheapest remat that fit"
)
_JSON = output.define_json()
_FINGERPRINT = flags.DEFINE_bool(
  "fingerprint", False, "print the program's digest only; compiles nothing"
)
_HLO = configs.define_path("hlo", "", "file for the optimized HLO text")

_COMPLETIONS = {Objective.GRPO: 8, Objective.ROLLOUT: 8} | dict.fromkeys(
  setting.PAIRS, 2
)
_GROUPS = {
  "The step": (
    *("model", "teacher", "objective", "prompts", "group", "prompt_tokens"),
    *("completion_tokens", "patches", "micro_batches"),
  ),
  "The slice": ("topology", "mesh.data", "mesh.fsdp", "mesh.tensor"),
  "What saves memory": (
    *("search", "remat", "lora_rank", "freeze_vision", "int8_teacher"),
    *("rule", "first_moment", "master"),
  ),
  "The result": ("json", "hlo"),
}


def from_flags() -> Setting:
  """Returns what the flags ask for."""
  objective = _OBJECTIVE.value
  model = setting.load_model(_MODEL.value)
  if _LAYERS.value:
    model = dataclasses.replace(model, num_hidden_layers=_LAYERS.value)
  teacher = setting.load_model(_TEACHER.value) if _TEACHER.value else None
  sees = all(m.layout is not None for m in (model, teacher) if m)
  pictures = 1024 if sees else 0
  return Setting(
    model=model,
    objective=objective,
    topology=_TOPOLOGY.value,
    mesh=configs.from_flags(MeshConfig(), prefix="mesh"),
    teacher=teacher,
    prompts=_PROMPTS.value,
    group=_GROUP.value or _COMPLETIONS.get(objective, 1),
    prompt_tokens=_PROMPT.value,
    completion_tokens=_COMPLETION.value,
    patches=pictures if _PATCHES.value is None else _PATCHES.value,
    micro_batches=_MICRO.value,
    optimizer=OptimizerConfig(
      rule=_RULE.value, first_moment=_MOMENT.value, master=_MASTER.value
    ),
    remat=_REMAT.value,
    lora_rank=_LORA.value,
    freeze_vision=_FREEZE.value,
    int8_teacher=_INT8.value,
    kl_coef=_KL.value,
    scan=_SCAN.value,
  )


def main() -> None:
  asked = from_flags()
  if _FINGERPRINT.value:
    print(cell.fingerprint(asked))
    return
  asked, result = _measured(asked)
  if output.in_words(_JSON):
    print(table.describe(asked, result))
  output.write(_JSON, table.to_json(asked, result))


def _measured(asked: Setting):
  logging.info("compiling for %s …", asked.topology)
  if not _SEARCH.value:
    return asked, cell.measure(asked, _HLO.value)
  devices = topology.devices(topology.parse(asked.topology))
  mesh = sharding.make_mesh(asked.mesh, devices)

  def noted(one: Setting):
    result = cell.measure(one, _HLO.value)
    fits = "fits" if isinstance(result, cell.Report) else "does not fit"
    logging.info(
      "%d micro-batch(es), %s: %s", one.micro_batches, one.remat.name, fits
    )
    return result

  found = search.search(asked, sharding.row_parts(mesh), noted)
  return found.setting, found.result


def run() -> None:
  program.run(main, "jaxvlm plan", groups=_GROUPS)
