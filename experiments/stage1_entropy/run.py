"""The study, end to end: `python -m experiments.stage1_entropy.run`.

Called again with the same --workdir it resumes. It leaves out what the paper
has and a laptop has not: a 72B teacher, MathVista, eight GPUs; and every
number of the paper that is not published stays our choice (`config.py`).
"""

import dataclasses
import json
import logging
import pathlib
import sys

import jax
from absl import app, flags

from experiments.stage1_entropy import arms, notes, problems, report, summary
from experiments.stage1_entropy import config as settings
from experiments.stage1_entropy.config import Scale, StudyConfig
from jaxvlm import __version__, assets, distributed
from jaxvlm import config as configs
from jaxvlm.data import chat as chats
from jaxvlm.models import qwen2_5_vl
from jaxvlm.models.lora import init_lora
from jaxvlm.models.quantize import quantize_int8
from jaxvlm.models.qwen2_5_vl import Config, load_sharded
from jaxvlm.models.qwen2_5_vl.partition import RULES
from jaxvlm.sharding import (
  MeshConfig,
  check_rows,
  device_layout,
  make_mesh,
  partition,
)
from jaxvlm.train.freeze import merge_params
from jaxvlm.typing import Params

_SCALE = flags.DEFINE_enum_class(
  "scale", Scale.LAPTOP, Scale, "which settings to start from"
)
_QUICK = flags.DEFINE_bool("quick", False, "two minutes: fewer steps, two arms")
_WORKDIR = flags.DEFINE_string(
  "workdir", "runs/stage1_entropy", "results; the same one resumes"
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "check everything, train nothing"
)


# How the processes find each other: different on every host, no setting.
_CLUSTER = "distributed"
# Calls with one workdir share all other settings.
_MAY_CHANGE = {"arms", "seeds", "first_seed", "mesh"}


def settings_for(argv: list[str]) -> StudyConfig:
  """Returns the defaults that --scale and --quick in `argv` choose.

  They are read ahead of the other flags, whose defaults depend on them.
  """
  early = flags.FlagValues()
  flags.DEFINE_enum_class("scale", Scale.LAPTOP, Scale, "", flag_values=early)
  flags.DEFINE_bool("quick", False, "", flag_values=early)
  early.set_gnu_getopt(True)  # values of the other flags stand in between
  early(argv, known_only=True)
  config = settings.CONFIGS[early.scale]()
  return settings.quick(config) if early.quick else config


def check(config: StudyConfig) -> None:
  """Raises ValueError for settings that cannot run, before anything does."""
  unknown = sorted(set(config.arms) - set(arms.ARMS))
  if unknown or not config.arms:
    raise ValueError(
      f"arms {unknown or '()'} are not known, expected some of {arms.ARMS}"
    )
  if config.grpo.group < 2:
    raise ValueError(
      f"grpo.group is {config.grpo.group}, expected at least 2: GRPO compares"
      " completions of one prompt"
    )
  at_least_one = {"evaluation.every": config.evaluation.every}
  for name in ("sft_early", "sft_over", "opd", "grpo"):
    stage = getattr(config, name)
    for field in ("steps", "prompts", "group", "micro_batches"):
      at_least_one[f"{name}.{field}"] = getattr(stage, field)
    if stage.prompts % max(stage.micro_batches, 1):
      raise ValueError(
        f"{name}.prompts is {stage.prompts}, expected a multiple of"
        f" {name}.micro_batches, {stage.micro_batches}"
      )
  slots, carry = config.grpo.slots, config.grpo.carry
  if carry and not (slots.rows and 0 <= carry <= config.grpo.prompts):
    raise ValueError(
      f"grpo.carry is {carry} with grpo.slots.rows {slots.rows}, expected 0 …"
      f" {config.grpo.prompts} (grpo.prompts) prompts and rows of at least 1"
    )
  if slots.rows:
    at_least_one["grpo.slots.rows"] = slots.rows
    at_least_one["grpo.slots.width"] = slots.width
    at_least_one["grpo.slots.segment"] = slots.segment
  if config.lora_rank < 0 or not config.lora_alpha > 0:
    raise ValueError(
      f"lora_rank is {config.lora_rank} and lora_alpha {config.lora_alpha},"
      " expected a rank of 0 (no adapters) or more and a positive alpha"
    )
  for name, value in at_least_one.items():
    if value < 1:
      raise ValueError(f"{name} is {value}, expected at least 1")


def check_batches(
  config: StudyConfig, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh
) -> None:
  """Raises ValueError for prompts that do not spread over the devices."""
  for name in ("sft_early", "sft_over", "opd", "grpo"):
    stage = getattr(config, name)
    check_rows(mesh, stage.prompts // stage.micro_batches)
  check_rows(mesh, config.evaluation.prompts)


def study(config: StudyConfig, workdir: pathlib.Path) -> pathlib.Path:
  """Runs all arms and seeds and returns the path of the report."""
  check(config)
  # A dry run may be far away from the devices of the run.
  mesh = make_mesh(MeshConfig() if _DRY_RUN.value else config.mesh)
  check_batches(config, mesh)
  if config.grpo.carry and jax.process_count() > 1:
    raise ValueError(
      f"grpo.carry is {config.grpo.carry} with {jax.process_count()} processes,"
      " expected 0: completions are carried within one process only"
    )
  with jax.set_mesh(mesh):
    return _study(config, workdir, mesh)


def _study(
  config: StudyConfig, workdir: pathlib.Path, mesh: jax.sharding.Mesh
) -> pathlib.Path:
  student_dir = config.model_dir or assets.folder("nano-base")
  teacher_dir = config.teacher_dir or assets.folder("nano-teacher")
  # What takes no gradient is kept in the compute type.
  compute = jax.numpy.bfloat16 if config.bfloat16 else jax.numpy.float32
  student, base = load_sharded(
    student_dir, mesh, compute if config.lora_rank else jax.numpy.float32
  )
  teacher, teacher_params = load_sharded(teacher_dir, mesh, compute)
  chat = chats.load(student_dir, student.layout)
  _fits(student_dir, student, chat)
  _same_tokens(chat, chats.load(teacher_dir, teacher.layout))
  _fits(teacher_dir, teacher, chat)
  found = problems.load(config, chat)
  programs = arms.make_programs(config, student, teacher, chat)
  if _DRY_RUN.value:
    print("dry run: settings, models, tokenizer and data are usable")
    return workdir
  base, teacher_params = _forms(config, mesh, base, teacher_params)
  if distributed.is_writer():
    record_settings(config, workdir)
  for seed in range(config.first_seed, config.first_seed + config.seeds):
    lab = arms.Lab(
      study=config,
      mesh=mesh,
      problems=found,
      programs=programs,
      teacher=teacher_params,
      identity={
        "settings": configs.digest(
          dataclasses.replace(
            config, arms=(), seeds=1, first_seed=0, mesh=MeshConfig()
          )
        ),
        "student": qwen2_5_vl.fingerprint(student_dir),
        "teacher": qwen2_5_vl.fingerprint(teacher_dir),
        "tokenizer": chat.fingerprint,
        "data": found.traces.digest + found.prompts.digest,
        "version": __version__,
        "device_layout": device_layout(),
      },
      seed=seed,
      workdir=workdir / f"seed-{seed}",
    )
    arms.measure_teacher(lab)
    for arm in config.arms:
      arms.run_arm(lab, arm, base)
  if not distributed.is_writer():
    return workdir
  summary.write_summary(workdir)
  return report.write_report(workdir, notes=notes.NOTES)


def _forms(
  config: StudyConfig, mesh: jax.sharding.Mesh, base: Params, teacher: Params
) -> tuple[Params, Params]:
  """Returns student and teacher with adapters and in 8 bits, if asked for."""

  def cut(function, *trees):
    shapes = jax.eval_shape(function, *trees)
    where = partition(mesh, shapes, RULES)
    return jax.jit(function, out_shardings=where)(*trees)

  if config.int8_teacher:
    teacher = cut(lambda tree: quantize_int8(tree, ""), teacher)
  if config.lora_rank:
    adapters = cut(
      lambda tree: init_lora(
        tree,
        jax.random.key(config.first_seed),
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        pattern="model/" if config.freeze_vision else "",
      ),
      base,
    )
    base = merge_params(base, adapters)
  return base, teacher


def quiet() -> None:
  """Silences libraries that report every file they write."""
  for name in ("absl", "tensorboardX", "orbax"):
    logging.getLogger(name).setLevel(logging.WARNING)


def cache_programs(folder: pathlib.Path) -> None:
  """Keeps compiled programs for the next start.

  Whoever can write the folder can run code in this process: it is private.

  Raises:
    OSError: the folder cannot be made.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
  except OSError as error:
    raise OSError(
      error.errno,
      f"{folder}: {error.strerror}; give a --workdir that can be written",
    ) from error
  jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))


def record_settings(config: StudyConfig, workdir: pathlib.Path) -> None:
  """Writes config.json; refuses a workdir made with other settings.

  Raises:
    ValueError: naming the settings that differ.
  """
  path = workdir / "config.json"
  if path.is_file():
    saved = json.loads(path.read_text())
    names = configs.to_json(config).keys() - _MAY_CHANGE
    different = _differences(
      {name: saved.get(name) for name in names},
      {name: configs.to_json(config)[name] for name in names},
    )
    if different:
      raise ValueError(
        f"{workdir} was made with other settings: {'; '.join(different)}."
        " Give the same ones to resume, or another --workdir"
      )
  workdir.mkdir(parents=True, exist_ok=True)
  record = {
    **configs.to_json(config),
    "command": " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
    "version": __version__,
    "jax": jax.__version__,
    "devices": device_layout(),
  }
  partial = path.with_suffix(".partial")
  partial.write_text(json.dumps(record, indent=1))
  partial.replace(path)


def _differences(saved: dict, now: dict, prefix: str = "") -> list[str]:
  """Returns "name: old there, new here" of every leaf that differs."""
  out = []
  for name in sorted(saved.keys() | now.keys()):
    old, new = saved.get(name), now.get(name)
    if isinstance(old, dict) and isinstance(new, dict):
      out += _differences(old, new, f"{prefix}{name}.")
    elif old != new:
      out.append(f"{prefix}{name} is {old} there, {new} here")
  return out


def _fits(folder: str | pathlib.Path, model: Config, chat: chats.Chat) -> None:
  """Raises unless tokenizer, geometry and model belong together."""
  found = {
    "image token": chat.image_token_id,
    "geometry of pictures": chat.layout,
    "vocabulary fits": chat.vocab_size <= model.vocab_size,
  }
  expected = {
    "image token": model.image_token_id,
    "geometry of pictures": model.layout,
    "vocabulary fits": True,
  }
  wrong = [name for name in found if found[name] != expected[name]]
  if wrong:
    raise ValueError(
      f"tokenizer and config.json of {folder} do not belong together:"
      + "; ".join(f" {n} {found[n]}, expected {expected[n]}" for n in wrong)
      + ". Use the files of one folder"
    )


def _same_tokens(student: chats.Chat, teacher: chats.Chat) -> None:
  """Raises unless both models read the same tokens."""
  if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
    raise ValueError(
      f"student and teacher have different vocabularies ({student.vocab_size}"
      f" and {teacher.vocab_size} tokens): a divergence between them is"
      " defined on the same tokens only; use models of one family"
    )


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}; see --helpfull")
  quiet()
  workdir = pathlib.Path(_WORKDIR.value)
  cache_programs(workdir / "xla")
  config = configs.from_flags(settings_for(sys.argv), flags.FLAGS)
  cluster = configs.from_flags(
    distributed.DistributedConfig(), flags.FLAGS, _CLUSTER
  )
  distributed.check(cluster)
  alone = distributed.DistributedConfig()
  with distributed.session(alone if _DRY_RUN.value else cluster):
    print(study(config, workdir))


def run() -> None:
  """Defines the flags of the chosen scale, then runs."""
  configs.define_flags(settings_for(sys.argv))
  configs.define_flags(distributed.DistributedConfig(), prefix=_CLUSTER)
  app.run(main)


if __name__ == "__main__":
  run()
