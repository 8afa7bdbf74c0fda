"""A study in little: settings, arms, claims and which figures are its own."""

import dataclasses

from jaxvlm import assets
from jaxvlm.data.sources.world import Mixture
from jaxvlm.study import (
  checks,
  claims,
  config,
  folders,
  galleries,
  kinds,
  main,
  page,
  problems,
  programs,
  read,
  samples,
)
from jaxvlm.study.design import Design, Point
from jaxvlm.study.verdicts import above, equal
from jaxvlm.tasks import world
from jaxvlm.train import objectives
from jaxvlm.train.assemble import functions


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig(config.StudyConfig):
  short: config.StageConfig
  long: config.StageConfig
  grpo: config.GRPOConfig


def laptop() -> ToyConfig:
  return ToyConfig(
    short=config.StageConfig(steps=1, prompts=2),
    long=config.StageConfig(steps=2, prompts=2),
    grpo=config.GRPOConfig(steps=2, prompts=2, group=2),
    evaluation=config.EvaluationConfig(samples=2, prompts=2),
    arms=("short", "long"),
    scan_layers=True,
  )


DESIGN = Design(
  arms={"short": "short SFT", "long": "long SFT"},
  stages={"sft": "SFT", "grpo": "GRPO"},
  problem_sets={"in_domain": "in-domain"},
  last="grpo",
  last_name="RL",
  untrained=(Point("short", "sft"), Point("long", "sft")),
)


def train(start: main.Start) -> None:
  c = start.config
  student = folders.read(c.model_dir or assets.folder("nano-base"))
  task, solved = world.task(), world.task(Mixture(("add",)))
  given = {
    "traces": solved.rows("sft_traces")[:6],
    "prompts": task.rows("rl_train")[:6],
  }
  measured = [problems.Measured("in_domain", task.rows("validation")[:4], 4)]
  found = problems.load(c, student.chat, task, given, measured)
  chat, model = student.chat, functions(student.config, c.form)
  stage = programs.make_stages(c, student.config)
  sft = objectives.sft(model, vocab_size=chat.vocab_size)
  grpo = stage(programs.grpo(model, c.grpo, chat.vocab_size), c.grpo)
  rollout = programs.make_rollout(c, chat, model, c.grpo)
  base, rows = programs.load_student(c, start.mesh, student), found.training
  for lab in start.labs(found, student):
    for arm in c.arms:
      entry = kinds.supervised(
        lab, kinds.Place(arm, "sft", 0, "base", arm), c.stages[arm],
        stage(sft, c.stages[arm]), rows["traces"], base)  # fmt: skip
      end = kinds.reinforced(
        lab, kinds.Place(arm, "grpo", 1, arm), c.grpo, grpo, rows["prompts"],
        entry, rollout)  # fmt: skip
      samples.write(lab, f"{arm}/grpo", 2, {"entry": entry, "endpoint": end})


def _short_minus_long(at, judge):
  return lambda results: claims.pairs(
    {name: getattr(results, at)(arm) for arm, name in DESIGN.arms.items()},
    judge,
  )


CLAIMS = (
  claims.Claim(
    id="T1", text="A longer SFT enters RL with less entropy.", paper="–",
    rule="Reproduced if the interval lies above 0.",
    problem_set="in_domain", metric="entropy",
    comparisons=_short_minus_long("entry", above(0.0)),
  ),
  claims.Claim(
    id="T2", text="After RL the accuracies coincide.", paper="–",
    rule="Reproduced if the interval lies inside ±5 points.",
    problem_set="in_domain", metric="accuracy",
    comparisons=_short_minus_long("endpoint", equal(5.0)),
  ),
)  # fmt: skip


def report(workdir):
  results = read.load(workdir, DESIGN)
  return page.write(
    workdir, results, CLAIMS, title="Is a longer SFT worth it?",
    preface="Before the runs.", galleries=[galleries.signal(results)],
  )  # fmt: skip


STUDY = main.Study(
  name="toy",
  scales={config.Scale.LAPTOP: laptop},
  check=lambda settings: checks.check(settings, DESIGN.arms),
  train=train,
  report=report,
  last=DESIGN.last,
)
