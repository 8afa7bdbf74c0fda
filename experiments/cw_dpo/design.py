"""The arms of the study, its stages and what it measures, in words.

An arm is a Stage 1 and a loss of Stage 2, with what an ablation changes of it.
"Stage 1 only" is no arm: it is where the others begin.
"""

import dataclasses
import enum
from collections.abc import Mapping

from jaxvlm.study.design import Design, Point
from jaxvlm.study.probing import SET


class Loss(enum.Enum):
  """What Stage 2 descends; the value is its field in `config.RatesConfig`."""

  DPO = "dpo"
  FOCAL_DPO = "focal_dpo"
  CW_DPO = "cw_dpo"


@dataclasses.dataclass(frozen=True)
class Arm:
  """One arm.

  Attributes:
    name: in words.
    stage1: folder of its Stage 1; "" begins at the base.
    loss: of Stage 2.
    changes: fields of `config.PreferenceConfig` that this arm has otherwise.
  """

  name: str
  stage1: str
  loss: Loss
  changes: Mapping[str, float] = dataclasses.field(default_factory=dict)


# Folder -> name in words: trained once for all arms that begin there.
_MAIN_STAGE1 = {"sft": "SFT", "sft_c": "SFT-C"}
STAGE1 = {**_MAIN_STAGE1, "sft_hard": "SFT under a hard constraint"}
_NAMES = {Loss.DPO: "DPO", Loss.FOCAL_DPO: "Focal-DPO", Loss.CW_DPO: "CW-DPO"}
MAIN = {
  f"{stage1}_{loss.value}": Arm(f"{before} → {name}", stage1, loss)
  for stage1, before in _MAIN_STAGE1.items()
  for loss, name in _NAMES.items()
}


def _changed(name: str, **changes: float) -> Arm:
  return Arm(name, "sft_c", Loss.CW_DPO, changes)


# The rows of the paper's Table 3 that are not among the main arms or their
# Stage 1, the sweeps of ℓ_floor and τ, and where negatives come from.
ABLATIONS = {
  "base_cw_dpo": Arm("no Stage 1 → CW-DPO", "", Loss.CW_DPO),
  "hard": Arm("hard constraint → CW-DPO", "sft_hard", Loss.CW_DPO),
  "constant": _changed("constant w_c", constant_weight=0.5),
  "filtered": _changed("easy negatives left out", easier_than=-3.0),
  "floor_5": _changed("ℓ_floor −5", floor=-5.0),
  "floor_2": _changed("ℓ_floor −2", floor=-2.0),
  "tau_half": _changed("τ 0.5", tau=0.5),
  "tau_2": _changed("τ 2", tau=2.0),
  "sampled": _changed("negatives of the policy", sampled=1.0),
  "mixed": _changed("half of the negatives of the policy", sampled=0.5),
}
ARMS = MAIN | ABLATIONS

DESIGN = Design(
  arms={arm: of.name for arm, of in ARMS.items()} | STAGE1,
  without_last=tuple(STAGE1),
  stages={"stage1": "Stage 1", "stage2": "Stage 2"},
  problem_sets={"validation": "validation", SET: "probe set"},
  last="stage2",
  last_name="Stage 2",
  untrained=(
    *(Point(arm, "stage1") for arm in STAGE1),
    Point("base_cw_dpo", "stage2"),
  ),
  headline="exact",
  shown={
    SET: (
      "total_variation",
      "jensen_shannon",
      "top1",
      "overconfidence",
      "entropy",
      "shift",
      "shift_paraphrase",
      "shift_minimally_wrong",
      "shift_other_picture",
      "shift_shuffled",
      "shift_random",
    )
  },
  # Ours: half of what the laptop's study takes.
  enough_steps=40,
  command="python -m experiments.cw_dpo.run",
)
NAMES = DESIGN.arms
