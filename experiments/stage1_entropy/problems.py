"""The study's problems: traces for SFT, prompts for OPD and GRPO, test sets."""

import pathlib
from dataclasses import replace

from experiments.stage1_entropy.config import Dataset, StudyConfig
from jaxvlm.data import diagrams
from jaxvlm.data.chat import Chat
from jaxvlm.data.sources.world import Mixture
from jaxvlm.study import problems
from jaxvlm.study.problems import Measured, Problems
from jaxvlm.tasks import check_readable, geometry3k, world


def load(
  config: StudyConfig,
  chat: Chat,
  folder: pathlib.Path | None = None,
  *,
  write: bool = True,
) -> Problems:
  """Reads, surveys and encodes the study's problems (`problems.load`)."""
  find = _world if config.dataset is Dataset.WORLD else _geometry3k
  task, traces, prompts, measured = find(config)
  check_readable(task, chat)
  if config.dataset is Dataset.GEOMETRY3K:
    # The world's pictures have one size, these have not.
    problems.warn_of_shapes(problems.make_encoder(config.data, chat))
  data = config.data
  return problems.load(
    config,
    chat,
    task,
    {"traces": traces, "prompts": prompts},
    measured,
    folder=folder,
    write=write,
    asked={"traces": data.traces, "prompts": data.train_problems},
  )


def _world(config: StudyConfig):
  e, task = config.evaluation, world.task()
  solved = world.task(Mixture((config.data.trace_style,)))
  measured = [
    Measured(name, task.rows(split.name)[:asked], asked)
    for name, split, asked in (
      ("in_domain", diagrams.VALIDATION, e.in_domain),
      ("out_of_domain", diagrams.VALIDATION_OOD, e.out_of_domain),
    )
  ]
  traces = solved.rows(diagrams.SFT_TRACES.name)
  return task, traces, task.rows(diagrams.RL_TRAIN.name), measured


def _geometry3k(config: StudyConfig):
  task, asked = geometry3k.task(config.data_dir), config.evaluation.in_domain
  train, test = task.rows("train"), task.rows(config.evaluation.split)
  prompts = [replace(row, responses=()) for row in train]
  return task, train, prompts, [Measured("in_domain", test[:asked], asked)]
