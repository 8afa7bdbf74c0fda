"""The stages of one coder's arms: a ladder of SFT, then RL from each rung."""

import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Sequence
from typing import NamedTuple

from experiments.rank_inversion import problems
from experiments.rank_inversion.config import FILTER_SAMPLES, StudyConfig
from experiments.rank_inversion.design import SHALLOW, Arm
from jaxvlm import distributed
from jaxvlm.plan.setting import Objective
from jaxvlm.rollout import Generate
from jaxvlm.study import kinds, programs, samples, stages
from jaxvlm.study.folders import ModelFolder
from jaxvlm.study.kinds import Place
from jaxvlm.study.lab import Lab
from jaxvlm.study.planned import PlannedStage
from jaxvlm.train import objectives
from jaxvlm.train.assemble import Assembly, functions
from jaxvlm.typing import Params

_RL = ("grpo", "grpo_kl", "grpo_hot", "grpo_cold")


class Programs(NamedTuple):
  """What the study compiles for a coder."""

  stages: dict[str, Assembly]  # by stage of the settings
  rollouts: dict[str, Generate]  # by stage of RL
  passes: Generate  # samples that decide which prompts are trained on
  deep: Generate  # the many samples at the ends of RL


def make_programs(config: StudyConfig, student: ModelFolder) -> Programs:
  """Builds every program; nothing is compiled before its first call."""
  chat, vocab = student.chat, student.chat.vocab_size
  model = functions(student.config, config.form)
  stage = programs.make_stages(config, student.config)
  sft = functools.partial(objectives.sft, model, vocab_size=vocab)
  # Stages with the same settings share a program.
  reinforced = functools.cache(
    lambda settings: stage(programs.grpo(model, settings, vocab), settings)
  )
  rollout = functools.cache(
    lambda settings: programs.make_rollout(config, chat, model, settings)
  )
  sampler = functools.partial(
    programs.make_sampler, config, chat, model, temperature=1.0
  )
  smoothed = sft(label_smoothing=config.label_smoothing)
  of = config.stages
  return Programs(
    stages={
      "sft": stage(sft(), of["sft"]),
      "sft_smooth": stage(smoothed, of["sft_smooth"]),
      **{name: reinforced(of[name]) for name in _RL},
    },
    rollouts={name: rollout(of[name]) for name in _RL},
    passes=sampler(group=FILTER_SAMPLES),
    deep=sampler(group=config.evaluation.deep_samples),
  )


def planned(config: StudyConfig, made: Programs) -> dict[str, PlannedStage]:
  """Returns what `--plan` compiles: the stages that differ in their shapes."""
  steps = made.stages
  return {
    "sft": PlannedStage(Objective.SFT, config.sft, steps["sft"]),
    "grpo": PlannedStage(
      Objective.GRPO, config.grpo, steps["grpo"], made.rollouts["grpo"]
    ),
    "grpo_kl": PlannedStage(Objective.GRPO, config.grpo_kl, steps["grpo_kl"]),
  }


def run(
  lab: Lab, compiled: Programs, coder: str, arms: Sequence[Arm], base: Params
) -> None:
  """Runs the arms of one coder, from the shallowest to the deepest.

  Args:
    lab: what they share.
    compiled: programs of the coder.
    coder: its name.
    arms: some of its arms.
    base: its parameters.
  """
  first = Arm(coder, SHALLOW)
  entries = {(first.sft, first.depth): warm_start(lab, compiled, first, base)}
  prompts = problems.filtered(lab, coder, compiled.passes, *entries.values())
  folders = {first.sft: _folder(lab, first)}
  for arm in sorted(arms, key=lambda arm: arm.depth):
    rung = arm.sft, arm.depth
    if rung not in entries:
      # A deeper rung is the run of the one before, gone on with.
      _continue(folders.get(arm.sft), _folder(lab, arm))
      entries[rung] = warm_start(lab, compiled, arm, base)
      folders[arm.sft] = _folder(lab, arm)
    entry = entries[rung]
    end = kinds.reinforced(
      lab,
      Place(arm.name, "grpo", 1, first="/".join(map(str, (coder, *rung)))),
      lab.config.stages[arm.rl],
      compiled.stages[arm.rl],
      prompts,
      entry,
      compiled.rollouts[arm.rl],
    )
    last = lab.config.grpo.steps
    _measure_deep(lab, arm, compiled.deep, {0: entry, last: end})
    samples.write(
      lab, f"{arm.name}/grpo", last, {"entry": entry, "endpoint": end}
    )


def warm_start(lab: Lab, compiled: Programs, arm: Arm, base: Params) -> Params:
  """Returns a rung of the ladder: SFT of the arm's depth."""
  settings = dataclasses.replace(
    lab.config.stages[arm.sft], steps=lab.config.depth_steps(arm.depth)
  )
  name = "/".join(map(str, (arm.coder, arm.sft, arm.depth)))
  return kinds.supervised(
    lab,
    Place(arm.name, "sft", 0, first=arm.coder, last=name),
    settings,
    compiled.stages[arm.sft],
    lab.problems.training["traces"],
    base,
  )


def _folder(lab: Lab, arm: Arm) -> pathlib.Path:
  return lab.workdir / arm.name / "sft"


def _continue(shallower: pathlib.Path | None, deeper: pathlib.Path) -> None:
  """Copies a finished run, so that a longer one goes on where it ended.

  The loop lengthens a run to the bit, and order and keys of SFT are the same
  in all arms: all rungs are checkpoints of one run.
  """
  if distributed.is_writer() and shallower and not deeper.exists():
    copy = deeper.with_name(deeper.name + ".copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(
      shallower, copy, ignore=shutil.ignore_patterns(".lock-*", "eval")
    )
    copy.rename(deeper)
  distributed.from_writer(True)  # the others wait


def _measure_deep(
  lab: Lab, arm: Arm, generate: Generate, policies: dict[int, Params]
) -> None:
  """Measures the ends of RL with many samples a problem, once."""
  hard = lab.problems.evaluation[0]
  deep = dataclasses.replace(
    lab,
    problems=dataclasses.replace(
      lab.problems, evaluation=(dataclasses.replace(hard, name="deep"),)
    ),
    evaluated={},
  )
  folder = lab.workdir / arm.name / "grpo"
  for step, params in policies.items():
    path = folder / "eval" / f"deep-{step:05d}.npz"
    if not distributed.from_writer(path.is_file()):
      stages.measure(deep, folder, step, params, generate, show_progress=True)
