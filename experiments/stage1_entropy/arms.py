"""The stages of one arm, from the base to the endpoint of GRPO."""

from typing import NamedTuple

from experiments.stage1_entropy.config import StudyConfig
from jaxvlm.plan.setting import Objective
from jaxvlm.rollout import Generate
from jaxvlm.study import kinds, programs, samples
from jaxvlm.study.folders import ModelFolder
from jaxvlm.study.kinds import Place
from jaxvlm.study.lab import Lab
from jaxvlm.study.planned import PlannedStage
from jaxvlm.train import objectives
from jaxvlm.train.assemble import Assembly, functions
from jaxvlm.typing import Params


class Programs(NamedTuple):
  """What the study compiles."""

  stages: dict[str, Assembly]  # by stage of the settings
  on_policy: Generate  # the student's completions for OPD
  rollout: Generate  # its groups for GRPO
  evaluate_teacher: Generate


def make_programs(
  config: StudyConfig, student: ModelFolder, teacher: ModelFolder
) -> Programs:
  """Builds every program; nothing is compiled before its first call."""
  chat, vocab = student.chat, {"vocab_size": student.chat.vocab_size}
  model, teach = (
    functions(folder.config, config.form) for folder in (student, teacher)
  )
  stage = programs.make_stages(config, student.config)
  opd, sft = config.opd, objectives.sft(model, **vocab)
  return Programs(
    stages={
      "sft_early": stage(sft, config.sft_early),
      "sft_over": stage(sft, config.sft_over),
      "opd": stage(
        objectives.opd(model, teach, temperature=opd.temperature, **vocab), opd
      ),
      "grpo": stage(programs.grpo(model, config.grpo, **vocab), config.grpo),
    },
    on_policy=programs.make_sampler(
      config, chat, model, group=opd.group, temperature=opd.temperature
    ),
    rollout=programs.make_rollout(config, chat, model, config.grpo),
    evaluate_teacher=programs.make_evaluator(config, chat, teach),
  )


def planned(
  config: StudyConfig, made: Programs, teacher: ModelFolder
) -> dict[str, PlannedStage]:
  """Returns what `--plan` compiles: every stage, and what it samples with."""
  steps, taught = made.stages, (teacher.config, config.teacher_form)
  sft, opd, grpo = Objective.SFT, Objective.OPD, Objective.GRPO
  return {
    "sft_early": PlannedStage(sft, config.sft_early, steps["sft_early"]),
    "sft_over": PlannedStage(sft, config.sft_over, steps["sft_over"]),
    "opd": PlannedStage(opd, config.opd, steps["opd"], made.on_policy, *taught),
    "grpo": PlannedStage(grpo, config.grpo, steps["grpo"], made.rollout),
  }


def run_arm(
  lab: Lab, compiled: Programs, arm: str, base: Params, teacher: Params
) -> None:
  """Runs Stage 1 (if the arm has one) and Stage 2."""
  entry = base
  if arm != "base":
    entry = stage1(lab, compiled, arm, base, teacher)
  endpoint = stage2(lab, compiled, arm, entry)
  shown = {"entry": entry, "endpoint": endpoint}
  samples.write(lab, f"{arm}/grpo", lab.config.grpo.steps, shown)


def stage1(
  lab: Lab, compiled: Programs, arm: str, base: Params, teacher: Params | None
) -> Params:
  """Returns the warm start of an arm."""
  place = Place(arm, "stage1", 0, first="base", last=arm)
  config, stage = lab.config.stages[arm], compiled.stages[arm]
  traces, prompts = (lab.problems.training[k] for k in ("traces", "prompts"))
  if arm != "opd":
    return kinds.supervised(lab, place, config, stage, traces, base)
  return kinds.distilled(
    lab, place, config, stage, prompts, base, compiled.on_policy, teacher
  )


def stage2(lab: Lab, compiled: Programs, arm: str, entry: Params) -> Params:
  """Returns the endpoint of GRPO from a warm start."""
  return kinds.reinforced(
    lab,
    Place(arm, "grpo", 1, first=arm),
    lab.config.grpo,
    compiled.stages["grpo"],
    lab.problems.training["prompts"],
    entry,
    compiled.rollout,
  )
