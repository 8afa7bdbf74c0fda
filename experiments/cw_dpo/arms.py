"""Programs of the study, and the stages of its arms."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

from experiments.cw_dpo import margins
from experiments.cw_dpo.config import PreferenceConfig, StudyConfig, uses
from experiments.cw_dpo.design import ARMS, STAGE1, Loss
from jaxvlm.data.rows import Row
from jaxvlm.diagnostics.probes import TEXTS
from jaxvlm.plan import setting
from jaxvlm.rollout import Generate, Score, make_score
from jaxvlm.study import kinds, programs, samples
from jaxvlm.study.folders import ModelFolder
from jaxvlm.study.kinds import Place
from jaxvlm.study.lab import Lab
from jaxvlm.study.planned import PlannedStage
from jaxvlm.study.probing import ProbeSet
from jaxvlm.train import objectives
from jaxvlm.train.assemble import Assembly, functions
from jaxvlm.train.objectives import Objective
from jaxvlm.train.probing import make_prober
from jaxvlm.typing import Model, Params

_PLANNED = {
  "sft": setting.Objective.SFT,
  "sft_c": setting.Objective.SFT_C,
  Loss.DPO: setting.Objective.DPO,
  Loss.FOCAL_DPO: setting.Objective.DPO,
  Loss.CW_DPO: setting.Objective.CW_DPO,
}


class Programs(NamedTuple):
  """What the study compiles."""

  first: dict[str, Assembly]  # by kind of Stage 1
  second: dict[str, Assembly]  # by arm
  probes: ProbeSet
  margins: margins.Measure
  negatives: Generate  # captions of the policy, as negatives
  score: Score  # of negatives, for a hard constraint


def make_programs(
  config: StudyConfig, student: ModelFolder, probed: Sequence[Row]
) -> Programs:
  """Builds every program; nothing is compiled before its first call."""
  chat, model = student.chat, functions(student.config, config.form)
  vocab = {"vocab_size": chat.vocab_size}
  stage = programs.make_stages(config, student.config)
  constrained = config.stage1
  first = {
    "sft": (objectives.sft(model, **vocab), objectives.count),
    "sft_c": (
      objectives.sft_c(
        model, floor=constrained.floor, weight=constrained.weight, **vocab
      ),
      objectives.sft_c_totals(model, **vocab),
    ),
    "sft_hard": (
      objectives.sft_constrained(model, floor=constrained.floor, **vocab),
      objectives.constrained_totals,
    ),
  }
  return Programs(
    first={
      name: stage(objective, config.first(name), totals)
      for name, (objective, totals) in first.items()
    },
    second={
      name: stage(
        _preference(model, arm.loss, config.second(arm), chat.vocab_size),
        config.second(arm),
      )
      for name, arm in ARMS.items()
      if name in config.arms
    },
    probes=ProbeSet(
      config.probes,
      probed,
      TEXTS,
      make_prober(model, **vocab),
      programs.make_sampler(
        config, chat, model, group=config.evaluation.samples, temperature=1.0
      ),
    ),
    margins=margins.make_measure(model, **vocab),
    negatives=programs.make_sampler(
      config, chat, model, group=config.stage2.draws, temperature=1.0
    ),
    score=make_score(model, **vocab),
  )


def _preference(
  model: Model, loss: Loss, stage: PreferenceConfig, vocab_size: int
) -> Objective:
  common = {"vocab_size": vocab_size, "beta": stage.beta}
  if loss is Loss.DPO:
    return objectives.dpo(model, **common)
  if loss is Loss.FOCAL_DPO:
    return objectives.focal_dpo(model, gamma=stage.gamma, **common)
  constant = stage.constant_weight
  return objectives.cw_dpo(
    model,
    floor=stage.floor,
    tau=stage.tau,
    constant_weight=None if constant < 0 else constant,
    easier_than=stage.easier_than or None,
    **common,
  )


def planned(config: StudyConfig, made: Programs) -> dict[str, PlannedStage]:
  """Returns what `--plan` compiles: every kind of Stage 1 and loss once."""
  out = {
    name: PlannedStage(_PLANNED[name], config.first(name), made.first[name])
    for name in uses(config)
    if name != "sft_hard"  # its batches have a multiplier beside them
  }
  for name, assembly in made.second.items():
    arm = ARMS[name]
    out.setdefault(
      arm.loss.value,
      PlannedStage(_PLANNED[arm.loss], config.second(arm), assembly),
    )
  return out


def run(lab: Lab, made: Programs, base: Params) -> None:
  """Runs the kinds of Stage 1 that are used, then every arm's Stage 2."""
  config: StudyConfig = lab.config
  entries = {"": base}
  for name in uses(config):
    train, stage = kinds.supervised, config.first(name)
    rows = lab.problems.training["sft" if name == "sft" else "sft_c"]
    if name == "sft_hard":
      train = functools.partial(
        kinds.constrained,
        score=made.score,
        floor=stage.floor,
        rate=stage.ascent,
      )
    place = Place(name, "stage1", 0, first="base", last=name)
    entries[name] = train(
      lab, place, stage, made.first[name], rows, base, probes=made.probes
    )
  for name in config.arms:
    arm = ARMS[name]
    entry, stage = entries[arm.stage1], config.second(arm)
    place = Place(name, "stage2", 1, first=arm.stage1 or "base")
    rows = lab.problems.training["stage2"]
    train = kinds.supervised
    if stage.sampled:
      train = functools.partial(
        kinds.paired,
        generate=made.negatives,
        fraction=stage.sampled,
        task=lab.problems.task,
      )
    endpoint = train(
      lab, place, stage, made.second[name], rows, entry, probes=made.probes
    )
    _measure_margins(lab, made, name, entry, endpoint)
    shown = {STAGE1.get(arm.stage1, "base"): entry, arm.name: endpoint}
    samples.write(lab, f"{name}/stage2", config.stage2.steps, shown)


def _measure_margins(
  lab: Lab, made: Programs, name: str, entry: Params, endpoint: Params
) -> None:
  """Files where the gradient of the last batch's pairs comes from."""
  stage = lab.config.second(ARMS[name])

  def measured():
    source = lab.source(lab.problems.training["stage2"], stage, 1)
    pairs = next(lab.stream(source, stage.steps - 1)).batch
    return made.margins(endpoint, entry, pairs)

  folder = lab.workdir / name / "stage2"
  margins.write(folder / f"margins-{stage.steps:05d}.npz", measured)
