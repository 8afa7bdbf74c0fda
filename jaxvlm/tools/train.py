"""Trains a model on your own rows.

  jaxvlm train --objective=sft --model_dir=nano-base --data=rows.jsonl \\
    --workdir=runs/mine

The same command resumes. `--objective=… --help` shows the flags of an
objective. `jaxvlm export` makes a Hugging Face folder of a checkpoint.
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from jaxvlm import config as configs
from jaxvlm import program
from jaxvlm.study import main as studies
from jaxvlm.study.config import StudyConfig
from jaxvlm.study.main import Study
from jaxvlm.tools.training import run as runs
from jaxvlm.tools.training.config import RunConfig, TrainConfig
from jaxvlm.tools.training.recipes import RECIPES

# Short names of the flags that every run has.
_SHORT = {
  "data": "data.path",
  "eval_data": "evaluation.path",
  "eval_every": "evaluate_every",
  "lr": "optimizer.peak_lr",
  "seed": "first_seed",
}
# Command lines with all the flags that there are (`jaxvlm completion`).
FORMS = tuple(f"--objective={name}" for name in RECIPES)
# Those of other objectives are left out.
_GROUPS = {
  "What is trained": ("objective", "model_dir", "teacher_dir", "reward"),
  "On which rows": (
    "data",
    "data.pictures",
    "data.columns",
    "data.max_dropped",
  ),
  "How long, how fast": (
    *("steps", "prompts", "group", "micro_batches", "minibatches", "lr"),
    *("data.max_new_tokens", "temperature", "seed"),
  ),
  "What the loss is": (
    *("label_smoothing", "floor", "weight", "beta", "tau", "gamma"),
    *("clip_low", "clip_high", "kl_coef", "normalize_std"),
  ),
  "Measured on the way": ("eval_data", "eval_every", "evaluation.samples"),
  "What fits into memory": (
    *("lora_rank", "lora_alpha", "freeze_vision", "bfloat16", "remat"),
  ),
  "The run": (
    *("workdir", "dry_run", "plan", "checkpoint_every", "wandb_project"),
  ),
}


def _objective(argv: Sequence[str]) -> str:
  """Returns the objective, read ahead: the other flags depend on it."""
  early = flags.FlagValues()
  _define_objective(early)
  early.set_gnu_getopt(True)  # values of the other flags stand in between
  early(list(argv), known_only=True)
  return early.objective


def _define_objective(values: flags.FlagValues) -> None:
  told = "; ".join(f"{name}: {r.told}" for name, r in RECIPES.items())
  flags.DEFINE_enum("objective", "sft", list(RECIPES), told, flag_values=values)


def define(argv: Sequence[str]) -> None:
  """Defines the flags of the objective that a command line names."""
  name = _objective(argv)
  _define_objective(flags.FLAGS)
  studies.define_start("runs/train")
  configs.define_flags(TrainConfig())
  configs.define_flags(RECIPES[name].stage)
  for short, long in _SHORT.items():
    configs.define_alias(short, long)


def settings() -> RunConfig:
  """Returns what the flags say."""
  name = flags.FLAGS.objective
  common = configs.from_flags(TrainConfig(objective=name))
  stage = configs.from_flags(RECIPES[name].stage)
  return RunConfig(**vars(common), stage=stage)


def main() -> None:
  config, workdir = settings(), pathlib.Path(flags.FLAGS.workdir)

  def make(dry_run: bool) -> tuple[Study, StudyConfig]:
    keep = None if dry_run else workdir / "pictures"
    prepared = runs.prepare(config, keep)
    return runs.study(prepared), prepared.config

  studies.launch(make)


def run() -> None:
  program.run(
    main, "jaxvlm train", define=lambda: define(sys.argv), groups=_GROUPS
  )
