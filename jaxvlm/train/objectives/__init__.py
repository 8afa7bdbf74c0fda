"""Where models and losses meet: (params, frozen, batch, totals) -> loss.

Each function returns an `Objective` for `make_train_step`; `frozen` holds
trees that take no gradient (the teacher, the reference). `count` is the
matching `Totals` of all but `sft_c` and `sft_constrained`, which bring their
own.
"""

from jaxvlm.train.objectives.distillation import opd
from jaxvlm.train.objectives.inputs import (
  Counts,
  Experience,
  batch_of,
  count,
)
from jaxvlm.train.objectives.preference import cw_dpo, dpo, focal_dpo
from jaxvlm.train.objectives.reinforced import grpo, per_sequence, per_token
from jaxvlm.train.objectives.supervised import (
  Contrast,
  Multiplied,
  ascend,
  constrained_totals,
  sft,
  sft_c,
  sft_c_totals,
  sft_constrained,
)
from jaxvlm.train.step import Objective

__all__ = [
  "Contrast",
  "Counts",
  "Experience",
  "Multiplied",
  "Objective",
  "ascend",
  "batch_of",
  "constrained_totals",
  "count",
  "cw_dpo",
  "dpo",
  "focal_dpo",
  "grpo",
  "opd",
  "per_sequence",
  "per_token",
  "sft",
  "sft_c",
  "sft_c_totals",
  "sft_constrained",
]
