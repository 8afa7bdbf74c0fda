"""The study, end to end: `python -m experiments.stage1_entropy.run`.

Called again with the same --workdir it resumes. It leaves out what the paper
has and a laptop has not: a 72B teacher, MathVista, eight GPUs; and every
number of the paper that is not published stays our choice (`config.py`).
"""

import contextlib
import pathlib
import sys
from typing import Any

import jax
from absl import flags

from experiments.stage1_entropy import arms, report
from experiments.stage1_entropy import config as settings
from jaxvlm import __version__, assets, distributed, models, program
from jaxvlm import config as configs
from jaxvlm import lock as locks
from jaxvlm.data import chat as chats
from jaxvlm.models.quantize import quantize_int8
from jaxvlm.sharding import (
  MeshConfig,
  device_layout,
  make_mesh,
  partition,
)
from jaxvlm.study import checks, problems, record
from jaxvlm.study.config import Scale, StudyConfig
from jaxvlm.study.lab import Lab
from jaxvlm.study.programs import adapters, make_programs
from jaxvlm.train import preemption
from jaxvlm.train.freeze import merge_params
from jaxvlm.train.occupancy import occupied
from jaxvlm.typing import Params

_SCALE = flags.DEFINE_enum_class(
  "scale", Scale.LAPTOP, Scale, "which settings to start from"
)
_QUICK = flags.DEFINE_bool("quick", False, "two minutes: fewer steps, two arms")
_WORKDIR = configs.define_path(
  "workdir", "runs/stage1_entropy", "results; the same one resumes"
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "check everything, train nothing"
)


# How the processes find each other: different on every host, no setting.
_CLUSTER = "distributed"


def study(config: StudyConfig, workdir: pathlib.Path) -> pathlib.Path:
  """Runs all arms and seeds and returns the path of the report."""
  checks.check(config)
  # A dry run may be far away from the devices of the run.
  mesh = make_mesh(MeshConfig() if _DRY_RUN.value else config.mesh)
  checks.check_batches(config, mesh)
  if config.grpo.carry and jax.process_count() > 1:
    raise ValueError(
      f"grpo.carry is {config.grpo.carry} with {jax.process_count()} processes,"
      " expected 0: completions are carried within one process only"
    )
  # Before anything in the workdir is touched; a dry run touches nothing.
  alone = contextlib.nullcontext() if _DRY_RUN.value else occupied(workdir)
  with jax.set_mesh(mesh), alone:
    record.check(config, workdir)
    return _study(config, workdir, mesh)


def _study(
  config: StudyConfig, workdir: pathlib.Path, mesh: jax.sharding.Mesh
) -> pathlib.Path:
  student_dir = config.model_dir or assets.folder("nano-base")
  teacher_dir = config.teacher_dir or assets.folder("nano-teacher")
  student = models.check_pretrained(student_dir)
  teacher = models.check_pretrained(teacher_dir)
  chat = chats.load(student_dir, student.layout)
  checks.check_folder(student_dir, student, chat)
  checks.check_tokens(chat, chats.load(teacher_dir, teacher.layout))
  checks.check_folder(teacher_dir, teacher, chat)
  checks.check_adapters(config, student)
  found = problems.load(
    config,
    chat,
    workdir / "surveys",
    write=distributed.is_writer() and not _DRY_RUN.value,
  )
  programs = make_programs(config, student, teacher, chat)
  if _DRY_RUN.value:
    print("dry run: settings, models, tokenizer and data are usable")
    return workdir
  # A teacher, and the base of adapters, are kept in the compute type.
  compute = jax.numpy.bfloat16 if config.bfloat16 else jax.numpy.float32
  stored = compute if config.lora_rank else jax.numpy.float32
  base = models.load_sharded(student_dir, mesh, stored)
  teacher_params = models.load_sharded(teacher_dir, mesh, compute)
  base, teacher_params = _forms(config, mesh, base, teacher_params)
  if distributed.is_writer():
    record.write(config, workdir, found.evaluation)
  for seed in range(config.first_seed, config.first_seed + config.seeds):
    lab = Lab(
      study=config,
      mesh=mesh,
      problems=found,
      programs=programs,
      teacher=teacher_params,
      identity={
        "settings": record.digest(config),
        "student": models.fingerprint(student_dir),
        "teacher": models.fingerprint(teacher_dir),
        "tokenizer": chat.fingerprint,
        "data": found.traces.digest + found.prompts.digest,
        "problems": "".join(p.digest for p in found.evaluation),
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
  return report.write_report(workdir)


def _forms(
  config: StudyConfig,
  mesh: jax.sharding.Mesh,
  student: tuple[Any, Params],
  teacher: tuple[Any, Params],
) -> tuple[Params, Params]:
  """Returns student and teacher with adapters and in 8 bits, if asked for.

  Args:
    config: of the study.
    mesh: on which they lie.
    student: configuration of the model and its parameters.
    teacher: likewise.
  """

  def cut(function, model, tree):
    shapes = jax.eval_shape(function, tree)
    where = partition(mesh, shapes, models.partition_rules(model))
    return jax.jit(function, out_shardings=where)(tree)

  (_, base), (_, taught) = student, teacher
  if config.int8_teacher:
    taught = cut(lambda tree: quantize_int8(tree, ""), *teacher)
  if config.lora_rank:
    base = merge_params(
      base, cut(lambda tree: adapters(config, tree), *student)
    )
  return base, taught


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


def main() -> None:
  workdir = pathlib.Path(_WORKDIR.value)
  cache_programs(workdir / "xla")
  config = configs.from_flags(settings.settings_for(sys.argv), flags.FLAGS)
  cluster = configs.from_flags(
    distributed.DistributedConfig(), flags.FLAGS, _CLUSTER
  )
  distributed.check(cluster)
  alone = distributed.DistributedConfig()
  try:
    with (
      preemption.announced(lambda: f"{workdir}: {record.progress(workdir)}"),
      distributed.session(alone if _DRY_RUN.value else cluster),
    ):
      print(study(config, workdir))
  except locks.HeldError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
  except distributed.PeerError as error:
    # The others never came: start again, as when one is lost on the way.
    print(error, file=sys.stderr)
    sys.exit(distributed.PEER_LOST)


def define_flags() -> None:
  """Defines the flags of the chosen scale."""
  configs.define_flags(settings.settings_for(sys.argv))
  configs.define_flags(distributed.DistributedConfig(), prefix=_CLUSTER)


def run() -> None:
  program.run(main, "stage1_entropy", define=define_flags)


if __name__ == "__main__":
  run()
