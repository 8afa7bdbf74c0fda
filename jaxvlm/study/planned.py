"""`--plan=v5e:8x8`: the study's own stages, compiled for a slice.

Nothing is described anew: what is compiled are the steps and samplers that the
study made, on the shapes of its largest bucket.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxvlm.plan import cell, programs, table
from jaxvlm.plan.setting import Objective, Setting
from jaxvlm.rollout import Generate
from jaxvlm.study.config import GRPOConfig, StageConfig, StudyConfig
from jaxvlm.train.assemble import Assembly, Form


class PlannedStage(NamedTuple):
  """A stage as the planner sees it.

  Attributes:
    objective: what its step does.
    config: its settings.
    assembly: its train step, and what the step is given.
    rollout: its sampler; None where it samples nothing.
    teacher: configuration of a teacher; None without.
    form: how a teacher is kept; None: as the student.
  """

  objective: Objective
  config: StageConfig
  assembly: Assembly
  rollout: Generate | None = None
  teacher: Any = None
  form: Form | None = None


def cells(
  config: StudyConfig,
  student: Any,
  stages: Mapping[str, PlannedStage],
  topology: str,
) -> Iterator[tuple[str, Setting, cell.Build]]:
  """Yields (name, sizes, what builds the program) of every step and sampler.

  Args:
    config: settings of the study.
    student: configuration of the policy.
    stages: by name.
    topology: of the slice, such as `v5e:8x8`.
  """
  for name, stage in stages.items():
    setting = setting_of(config, student, stage, topology)
    yield name, setting, _step(config, stage)
    if stage.rollout is not None:
      yield f"{name} rollout", _sampled(setting), _sampler(stage.rollout)


def setting_of(
  config: StudyConfig, student: Any, stage: PlannedStage, topology: str
) -> Setting:
  """Returns the sizes of a stage, in the study's largest bucket."""
  data, settings, form = config.data, stage.config, config.form
  kept = stage.form or form
  return Setting(
    model=student,
    objective=stage.objective,
    topology=topology,
    mesh=config.mesh,
    teacher=stage.teacher,
    prompts=settings.prompts,
    group=settings.group,
    prompt_tokens=data.prompt_tokens[-1],
    completion_tokens=data.max_new_tokens,
    patches=data.patch_slots[-1],
    micro_batches=settings.parts,
    optimizer=settings.optimizer,
    remat=form.remat,
    lora_rank=form.lora_rank,
    freeze_vision=form.freeze_vision,
    int8_teacher=kept.int8,
    kl_coef=settings.kl_coef if isinstance(settings, GRPOConfig) else 0.0,
    scan=form.scan,
  )


def show(
  config: StudyConfig,
  student: Any,
  stages: Mapping[str, PlannedStage],
  topology: str,
) -> None:
  """Compiles and prints every cell; minutes each for large models."""
  for name, setting, build in cells(config, student, stages, topology):
    logging.info("%s: compiling for %s …", name, topology)
    print(table.describe(setting, cell.measure(setting, build=build)))


def _step(config: StudyConfig, stage: PlannedStage) -> cell.Build:
  def build(setting, mesh):
    return programs.train_program(
      stage.assembly,
      stage.form or config.form,
      setting.model,
      setting.teacher,
      programs.inputs(setting, mesh),
      mesh,
    )

  return build


def _sampled(setting: Setting) -> Setting:
  return dataclasses.replace(
    setting,
    objective=Objective.ROLLOUT,
    teacher=None,
    micro_batches=1,
    lora_rank=0,
    freeze_vision=False,
    int8_teacher=False,
    kl_coef=0.0,
  )


def _sampler(generate: Generate) -> cell.Build:
  return lambda setting, mesh: programs.rollout_program(generate, setting, mesh)
