"""The arms of the study, its stages and what it measures, in words."""

from jaxvlm.study.design import Design, Point

WARM_STARTS = ("opd", "sft_early", "sft_over")
TEACHER = Point("teacher")

DESIGN = Design(
  arms={
    "opd": "OPD",
    "sft_early": "early SFT",
    "sft_over": "over-trained SFT",
    "base": "base",
  },
  stages={"stage1": "Stage 1", "grpo": "Stage 2 (GRPO)"},
  problem_sets={"in_domain": "in-domain", "out_of_domain": "out-of-domain"},
  last="grpo",
  last_name="RL",
  # Before its RL, or before any arm's Stage 1.
  untrained=(
    Point("base", "grpo"),
    *(Point(arm, "stage1") for arm in WARM_STARTS),
  ),
  references={TEACHER: "teacher"},
  # Ours: half of what the laptop's study takes. Ten steps show that everything
  # runs, not where RL leads.
  enough_steps=30,
  command="python -m experiments.stage1_entropy.run",
)
NAMES = DESIGN.arms
