"""The study's command as a function, and flags that make it tiny."""

import os
import sys

# A process that takes so long hangs, however busy the cores are.
HANGS_S = 1800
# Everything as small as it gets; SFT, OPD, and GRPO with a reference, slots
# that refill, and completions that go on in the next step.
TINY = (
  "--arms=sft_early,opd",
  "--checkpoint_every=2",
  "--data.traces=5",
  "--data.train_problems=5",
  "--evaluation.every=2",
  "--evaluation.in_domain=3",
  "--evaluation.out_of_domain=2",
  "--evaluation.samples=2",
  "--evaluation.prompts=2",
  "--grpo.group=2",
  "--grpo.kl_coef=0.1",
  "--grpo.slots.rows=2",
  "--grpo.slots.width=2",
  "--grpo.slots.segment=8",
  "--grpo.carry=1",
  *(
    f"--{stage}.{setting}"
    for stage in ("sft_early", "opd", "grpo")
    for setting in ("steps=3", "prompts=2", "evaluate_every=0")
  ),
)


def command(arguments, log):
  """Runs the study in this process, its output in `log`."""
  from experiments.stage1_entropy import run

  file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
  os.dup2(file, sys.stdout.fileno())
  os.dup2(file, sys.stderr.fileno())
  sys.argv = ["stage1_entropy", *arguments]
  run.run()
