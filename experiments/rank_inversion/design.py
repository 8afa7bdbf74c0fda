"""The arms of the study: coders, depths of SFT, interventions, controls."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxvlm.study.design import Design, Point

# Epochs over one set of traces, of the paper; ours are in the same ratios.
DEPTHS = (1.0, 1.9, 2.9, 3.8, 5.8)
SHALLOW, DEEP = DEPTHS[0], DEPTHS[-1]
CODERS = ("weak", "strong")


class Arm(NamedTuple):
  """One way through SFT and RL.

  Attributes:
    coder: "weak", with little headroom, or "strong".
    depth: of SFT, one of `DEPTHS`.
    sft: the stage of the settings that its SFT has.
    rl: the stage of the settings that its RL has.
  """

  coder: str
  depth: float
  sft: str = "sft"
  rl: str = "grpo"

  @property
  def name(self) -> str:
    """Its folder: coder, depth, what is special about it."""
    special = {
      ("sft", "grpo"): "",
      ("sft", "grpo_kl"): "_kl",
      ("sft", "grpo_hot"): "_hot",
      ("sft", "grpo_cold"): "_cold",
      ("sft_smooth", "grpo"): "_smooth",
    }[self.sft, self.rl]
    return f"{self.coder}_{self.depth:.1f}{special}".replace(".", "_")


def ladder(coder: str) -> tuple[Arm, ...]:
  """Returns the five depths of a coder."""
  return tuple(Arm(coder, depth) for depth in DEPTHS)


KL_SHALLOW = Arm("weak", SHALLOW, rl="grpo_kl")
KL_DEEP = Arm("weak", DEEP, rl="grpo_kl")
SMOOTH = Arm("weak", DEEP, sft="sft_smooth")
# Depth drives every predictor at once. These move entropy alone: the same
# checkpoint, sampled at another temperature.
HOT = Arm("weak", DEEP, rl="grpo_hot")
COLD = Arm("weak", SHALLOW, rl="grpo_cold")

_SPECIAL = {
  KL_SHALLOW: ", KL",
  KL_DEEP: ", KL",
  SMOOTH: ", label smoothing",
  HOT: ", hot rollouts",
  COLD: ", cold rollouts",
}
ARMS: Mapping[str, Arm] = {
  arm.name: arm for arm in (*ladder("weak"), *_SPECIAL, *ladder("strong"))
}

DESIGN = Design(
  arms={
    name: f"{arm.coder} {arm.depth:.1f}{_SPECIAL.get(arm, '')}"
    for name, arm in ARMS.items()
  },
  stages={"sft": "SFT", "grpo": "RL"},
  # The second is the first with many samples a problem, at the ends of RL.
  problem_sets={"hard": "hard", "deep": "hard, many samples"},
  last="grpo",
  last_name="RL",
  untrained=tuple(Point(name, "sft") for name in ARMS),
  # Ours: ten steps show that everything runs, not where RL leads.
  enough_steps=30,
  command="python -m experiments.rank_inversion.run",
)
