"""A study's command: flags, the workdir, processes, then the study itself.

A paper's `run.py` names its study (`Study`) and calls `run`. Called again with
the same --workdir a study resumes.
"""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import flags

from jaxvlm import config as configs
from jaxvlm import distributed, wandb_board
from jaxvlm import lock as locks
from jaxvlm.journal import OpenBoard
from jaxvlm.plan import topology
from jaxvlm.sharding import MeshConfig, make_mesh
from jaxvlm.study import checks, measured, planned, programs, record
from jaxvlm.study.config import Scale, StudyConfig
from jaxvlm.study.folders import ModelFolder
from jaxvlm.study.lab import Lab, identity
from jaxvlm.study.planned import PlannedStage
from jaxvlm.study.problems import Problems
from jaxvlm.train import preemption
from jaxvlm.train.assemble import functions
from jaxvlm.train.occupancy import occupied

# `--help` lists the flags of a study with those of its own module.
flags.disclaim_key_flags()

# How the processes find each other: different on every host, no setting.
_CLUSTER = "distributed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
  """One start of a study.

  Attributes:
    config: settings.
    workdir: what it writes goes here.
    mesh: where it runs.
    dry_run: whether it only checks.
    topology: of the slice that the stages are compiled for, instead of run.
    followed_by: as in `Study`.
    last: as in `Study`.
    board: opens another place that shows what stages log; None: nothing does.
  """

  config: StudyConfig
  workdir: pathlib.Path
  mesh: jax.sharding.Mesh
  dry_run: bool
  followed_by: Mapping[str, str]
  last: str = ""
  topology: str = ""
  board: OpenBoard | None = None

  def plan(self, student: Any, stages: Mapping[str, PlannedStage]) -> None:
    """Compiles the stages for the slice that `--plan` names, if it does."""
    if self.topology:
      planned.show(self.config, student, stages, self.topology)

  @property
  def writes(self) -> bool:
    """Whether this process may write into the workdir."""
    return distributed.is_writer() and not self.dry_run

  def labs(
    self,
    problems: Problems,
    student: ModelFolder,
    *,
    most_stages: int = 2,
    **others: ModelFolder,
  ) -> Iterator[Lab]:
    """Writes config.json, then yields the lab of every seed.

    A dry run has none.

    Args:
      problems: what is trained on and measured.
      student: the model that is trained.
      most_stages: stages of the longest arm.
      **others: models that decide results besides, such as a teacher.
    """
    config = self.config
    if self.dry_run:
      return
    if distributed.is_writer():
      record.write(
        config,
        self.workdir,
        problems.evaluation,
        followed_by=self.followed_by,
        rows=problems.record(),
      )
    known = identity(config, problems, {"student": student, **others})
    model = functions(student.config, config.form)
    evaluate = programs.make_evaluator(config, problems.chat, model)
    for seed in self._unfinished():
      yield Lab(
        config=config,
        mesh=self.mesh,
        problems=problems,
        model=student.config,
        evaluate=evaluate,
        identity=known,
        seed=seed,
        workdir=self.workdir / f"seed-{seed}",
        most_stages=most_stages,
        board=self.board,
      )

  def _unfinished(self) -> list[int]:
    """Returns the seeds that measured.npz has not got to their ends."""
    config = self.config
    kept = measured.read(self.workdir)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    if not self.last:
      return list(seeds)
    steps = config.stages[self.last].steps

    def ended(seed: int) -> bool:
      # A run whose folder is there goes on by itself, and fills its gaps.
      return not (self.workdir / f"seed-{seed}").exists() and all(
        kept.finished(arm, seed, self.last, steps) for arm in config.arms
      )

    return distributed.from_writer([s for s in seeds if not ended(s)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """What a paper's study is made of.

  Attributes:
    name: of the folder in experiments/ and in runs/.
    scales: where it runs -> its settings there; the first is the default.
    check: raises ValueError for settings that cannot run; reads no file.
    train: reads models and data, and unless it is a dry run trains all arms.
    report: writes the page of a workdir and returns its path.
    quick: settings -> those of a try-out of a few minutes.
    followed_by: stage in the settings -> folder (arm/stage) of the stage that
      begins where it ends, and could not begin elsewhere once it has begun.
    last: the stage of the settings that all arms end with.
  """

  name: str
  scales: Mapping[Scale, Callable[[], StudyConfig]]
  check: Callable[[StudyConfig], None]
  train: Callable[[Start], None]
  report: Callable[[pathlib.Path], pathlib.Path]
  quick: Callable[[StudyConfig], StudyConfig] = lambda config: config
  followed_by: Mapping[str, str] = dataclasses.field(default_factory=dict)
  last: str = ""


def define_flags(study: Study) -> None:
  """Defines the flags of a study, with the defaults of the chosen scale."""
  _define_scale(study, flags.FLAGS)
  define_start(f"runs/{study.name}")
  configs.define_flags(settings_for(study, sys.argv))


def define_start(workdir: str) -> None:
  """Defines the flags of a start, which are no settings."""
  configs.define_path("workdir", workdir, "results; the same one resumes")
  flags.DEFINE_bool("dry_run", False, "check everything, train nothing")
  flags.DEFINE_string(
    "plan", "", "a slice such as v5e:8x8: compile all stages for it, train none"
  )
  flags.DEFINE_string(
    "wandb_project", "", "show metrics on Weights & Biases, too; needs the"
    " extra wandb. Nothing leaves the machine without this flag"
  )  # fmt: skip
  configs.define_flags(distributed.DistributedConfig(), prefix=_CLUSTER)


def _define_scale(study: Study, values: flags.FlagValues) -> None:
  flags.DEFINE_enum_class(
    "scale",
    next(iter(study.scales)),
    Scale,
    "which settings to start from",
    flag_values=values,
  )
  flags.DEFINE_bool(
    "quick", False, "a try-out: fewer steps and arms", flag_values=values
  )


def settings_for(study: Study, argv: Sequence[str]) -> StudyConfig:
  """Returns the defaults that --scale and --quick in `argv` choose.

  They are read ahead of the other flags, whose defaults depend on them.

  Raises:
    ValueError: the study has no settings for the scale.
  """
  early = flags.FlagValues()
  _define_scale(study, early)
  early.set_gnu_getopt(True)  # values of the other flags stand in between
  early(list(argv), known_only=True)
  if early.scale not in study.scales:
    raise ValueError(
      f"scale is {early.scale.value}, and {study.name} has settings for"
      f" {', '.join(scale.value for scale in study.scales)} only"
    )
  config = study.scales[early.scale]()
  return study.quick(config) if early.quick else config


def run(study: Study) -> None:
  """Reads the flags, runs the study and prints the path of its report."""
  config = configs.from_flags(settings_for(study, sys.argv))
  launch(lambda _: (study, config))


def launch(make: Callable[[bool], tuple[Study, StudyConfig]]) -> None:
  """Runs a study as the flags of a start say, and prints its report's path.

  Args:
    make: whether it is a dry run -> the study and its settings; called when
      the processes have found each other, before which no device may be used.
  """
  values = flags.FLAGS
  workdir, dry_run = pathlib.Path(values.workdir), values.dry_run
  if values.plan:  # nothing runs here; the slice is only spoken of
    topology.parse(values.plan)
    dry_run = True
  project = values.wandb_project
  board = wandb_board.opener(project) if project else None
  _cache_programs(workdir / "xla")
  cluster = configs.from_flags(distributed.DistributedConfig(), prefix=_CLUSTER)
  distributed.check(cluster)
  alone = distributed.DistributedConfig()
  try:
    with (
      preemption.announced(lambda: f"{workdir}: {record.progress(workdir)}"),
      distributed.session(alone if dry_run else cluster),
    ):
      report = execute(
        *make(dry_run),
        workdir,
        dry_run=dry_run,
        plan=values.plan,
        board=board,
      )
      print(report)
  except locks.HeldError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
  except distributed.PeerError as error:
    # The others never came: start again, as when one is lost on the way.
    print(error, file=sys.stderr)
    sys.exit(distributed.PEER_LOST)


def execute(
  study: Study,
  config: StudyConfig,
  workdir: pathlib.Path,
  *,
  dry_run: bool = False,
  plan: str = "",
  board: OpenBoard | None = None,
) -> pathlib.Path:
  """Runs a study and returns the path of its report.

  A dry run returns the workdir, and so do processes that do not write.

  Raises:
    ValueError: settings, models, data or an earlier start in the same workdir
      do not fit; nothing was trained.
    HeldError: another process runs in the workdir.
  """
  study.check(config)
  # A dry run may be far away from the devices of the run.
  mesh = make_mesh(MeshConfig() if dry_run else config.mesh)
  checks.check_batches(config, mesh)
  checks.check_carry(config, jax.process_count())
  # Before anything in the workdir is touched; a dry run touches nothing.
  alone = contextlib.nullcontext() if dry_run else occupied(workdir)
  with jax.set_mesh(mesh), alone:
    record.check(config, workdir, followed_by=study.followed_by)
    study.train(
      Start(
        config=config,
        workdir=workdir,
        mesh=mesh,
        dry_run=dry_run,
        followed_by=study.followed_by,
        last=study.last,
        topology=plan,
        board=board,
      )
    )
    if dry_run:
      print("dry run: settings, models, tokenizer and data are usable")
    if dry_run or not distributed.is_writer():
      return workdir
    return study.report(workdir)


def _cache_programs(folder: pathlib.Path) -> None:
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
