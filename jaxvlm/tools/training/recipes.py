"""Objectives by name: what each needs of rows, its settings, how it trains."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvlm import losses
from jaxvlm.data import own
from jaxvlm.data.own.forms import Form
from jaxvlm.data.rows import Survey
from jaxvlm.plan.setting import Objective as Planned
from jaxvlm.rollout import Generate
from jaxvlm.study import kinds, programs
from jaxvlm.study.config import (
  CWDPOConfig,
  DPOConfig,
  FocalDPOConfig,
  GRPOConfig,
  SFTCConfig,
  SFTConfig,
  StageConfig,
)
from jaxvlm.study.kinds import Place
from jaxvlm.study.lab import Lab
from jaxvlm.train import objectives
from jaxvlm.train.assemble import Assembly
from jaxvlm.train.objectives import Objective
from jaxvlm.train.optimizer import OptimizerConfig
from jaxvlm.typing import Model, Params


class Given(NamedTuple):
  """What a stage is trained with.

  Attributes:
    rows: to learn from.
    base: whole parameters at the start.
    rollout: samples completions; None where none are.
    teacher: parameters of the teacher; None without.
  """

  rows: Survey
  base: Params
  rollout: Generate | None = None
  teacher: Params | None = None


class Recipe(NamedTuple):
  """One objective.

  Attributes:
    told: what it does, for `--help`.
    stage: its settings with their defaults; the fields are its flags.
    objective: (policy, teacher or None, settings, vocabulary) -> the loss.
    train: runs the stage.
    loss: (settings, f32[1]) -> its loss of one pair or token, which checks the
      settings.
    planned: what the planner calls it.
    form: what it reads of a user's records; None: as the reward needs.
    totals: (policy, vocabulary) -> normalizers.
    sampler: (settings, chat, policy, the stage's settings) -> what samples
      completions to train on.
    scored: whether a reward decides what is learned.
    teacher: whether it learns from another model.
  """

  told: str
  stage: StageConfig
  objective: Callable[[Model, Model | None, Any, int], Objective]
  train: Callable[[Lab, Place, Any, Assembly, Given], Params]
  loss: Callable[[Any, jax.Array], Any]
  planned: Planned
  form: Form | None = None
  totals: Callable[[Model, int], Any] = lambda model, vocab: objectives.count
  sampler: Callable[..., Generate | None] = lambda *settings: None
  scored: bool = False
  teacher: bool = False

  @property
  def sampled(self) -> bool:
    """Whether it trains on the policy's own completions."""
    return self.train is not _supervised

  def check(self, stage: StageConfig) -> None:
    """Raises ValueError for numbers that the loss refuses."""
    one = jax.ShapeDtypeStruct((1,), np.float32)
    jax.eval_shape(lambda x: self.loss(stage, x), one)


def _supervised(lab, place, config, assembly, given: Given) -> Params:
  return kinds.supervised(lab, place, config, assembly, given.rows, given.base)


def _distilled(lab, place, config, assembly, given: Given) -> Params:
  return kinds.distilled(
    lab, place, config, assembly, *given[:2], given.rollout, given.teacher
  )


def _reinforced(lab, place, config, assembly, given: Given) -> Params:
  return kinds.reinforced(
    lab, place, config, assembly, *given[:2], given.rollout
  )


def _rate(lr: float) -> dict[str, Any]:
  return {"optimizer": OptimizerConfig(peak_lr=lr, warmup_steps=5, b2=0.98)}


# Rates are ours, for the shipped models; see docs/own_rows.md.
RECIPES: Mapping[str, Recipe] = {
  "sft": Recipe(
    told="supervised fine-tuning on a row's response",
    stage=SFTConfig(steps=100, prompts=8, **_rate(5e-4)),
    objective=lambda model, _, stage, vocab: objectives.sft(
      model, vocab_size=vocab, label_smoothing=stage.label_smoothing
    ),
    train=_supervised,
    loss=lambda stage, x: losses.sft_loss(
      x,
      x != 0,
      label_smoothing=stage.label_smoothing,
      mean_vocab_logprobs=x,
    ),
    planned=Planned.SFT,
    form=own.answered,
  ),
  "sft_c": Recipe(
    told="SFT that holds the rejected response's likelihood above a floor",
    stage=SFTCConfig(steps=100, prompts=8, **_rate(5e-4)),
    objective=lambda model, _, stage, vocab: objectives.sft_c(
      model, vocab_size=vocab, floor=stage.floor, weight=stage.weight
    ),
    train=_supervised,
    loss=lambda stage, x: losses.sft_c_loss(
      x, x != 0, x, x != 0, floor=stage.floor, weight=stage.weight
    ),
    planned=Planned.SFT_C,
    form=own.pairs,
    totals=lambda model, vocab: objectives.sft_c_totals(
      model, vocab_size=vocab
    ),
  ),
  "opd": Recipe(
    told="on-policy distillation: own answers, held against a teacher",
    stage=StageConfig(steps=100, prompts=8, group=2, **_rate(3e-4)),
    objective=lambda model, teacher, stage, vocab: objectives.opd(
      model, teacher, vocab_size=vocab, temperature=stage.temperature
    ),
    train=_distilled,
    loss=lambda stage, x: losses.opd_loss(x, x != 0),
    planned=Planned.OPD,
    form=own.prompts,
    sampler=lambda config, chat, model, stage: programs.make_sampler(
      config, chat, model, group=stage.group, temperature=stage.temperature
    ),
    teacher=True,
  ),
  "dpo": Recipe(
    told="DPO on chosen and rejected responses",
    stage=DPOConfig(steps=100, prompts=8, **_rate(5e-5)),
    objective=lambda model, _, stage, vocab: objectives.dpo(
      model, vocab_size=vocab, beta=stage.beta
    ),
    train=_supervised,
    loss=lambda stage, x: losses.dpo_loss(x, x, x, x, beta=stage.beta),
    planned=Planned.DPO,
    form=own.pairs,
  ),
  "cw_dpo": Recipe(
    told="DPO whose easy negatives are cooled",
    stage=CWDPOConfig(steps=100, prompts=8, **_rate(5e-5)),
    objective=lambda model, _, stage, vocab: objectives.cw_dpo(
      model,
      vocab_size=vocab,
      beta=stage.beta,
      floor=stage.floor,
      tau=stage.tau,
      differentiate_weight=stage.differentiate_weight,
      easier_than=stage.easier_than,
    ),
    train=_supervised,
    loss=lambda stage, x: losses.cw_dpo_loss(
      x, x, x, x, x, beta=stage.beta, floor=stage.floor, tau=stage.tau
    ),
    planned=Planned.CW_DPO,
    form=own.pairs,
  ),
  "focal_dpo": Recipe(
    told="DPO under the focal loss",
    stage=FocalDPOConfig(steps=100, prompts=8, **_rate(5e-5)),
    objective=lambda model, _, stage, vocab: objectives.focal_dpo(
      model, vocab_size=vocab, beta=stage.beta, gamma=stage.gamma
    ),
    train=_supervised,
    loss=lambda stage, x: losses.focal_dpo_loss(
      x, x, x, x, beta=stage.beta, gamma=stage.gamma
    ),
    planned=Planned.DPO,
    form=own.pairs,
  ),
  "grpo": Recipe(
    told="GRPO on own answers, scored by a reward",
    stage=GRPOConfig(steps=100, prompts=8, group=8, **_rate(1e-4)),
    objective=lambda model, _, stage, vocab: programs.grpo(model, stage, vocab),
    train=_reinforced,
    loss=lambda stage, x: None,  # `study.checks` asks its owner
    planned=Planned.GRPO,
    sampler=programs.make_rollout,
    scored=True,
  ),
}
