"""The study's problems: traces, prompts that are left to learn, tests."""

import json
import logging
import pathlib
from dataclasses import replace

import jax
import numpy as np

from experiments.rank_inversion.config import FILTER_SAMPLES, StudyConfig
from jaxvlm import distributed, wholefile
from jaxvlm.data.chat import Chat
from jaxvlm.data.rows import Survey
from jaxvlm.data.sources.programs import Mixture
from jaxvlm.eval import harness
from jaxvlm.rewards.code import Sandbox
from jaxvlm.rollout import Generate
from jaxvlm.study import problems
from jaxvlm.study.lab import Lab
from jaxvlm.study.problems import Measured, Problems
from jaxvlm.tasks import code, programs, tested
from jaxvlm.train import experience
from jaxvlm.typing import Params


def load(
  config: StudyConfig, chat: Chat, folder: pathlib.Path, *, write: bool
) -> Problems:
  """Reads, surveys and encodes the study's problems (`problems.load`)."""
  find = _published if config.kodcode_file else _world
  task, traces, prompts, measured = find(config)
  data = config.data
  return problems.load(
    config,
    chat,
    task,
    {"traces": traces, "prompts": prompts},
    [measured],
    folder=folder,
    write=write,
    asked={"traces": data.traces, "prompts": data.train_problems},
  )


def _world(config: StudyConfig):
  e, task = config.evaluation, programs.task(level=config.sandbox)
  return (
    task,
    programs.task(Mixture(seed=3)).rows("sft_traces"),
    task.rows("rl_train"),
    Measured("hard", task.rows(e.split)[: e.problems], e.problems),
  )


def _published(config: StudyConfig):
  """KodCode's first problems for SFT, the others for RL; HumanEval(+)."""
  # Open as long as the process: its workers end with it.
  sandbox, e = Sandbox(level=config.sandbox), config.evaluation
  kodcode = code.kodcode(config.kodcode_file, sandbox)
  task = replace(
    kodcode,
    reward=lambda responses, rows: tested.doubled(
      kodcode.reward(responses, rows)
    ),
  )
  rows = task.rows("train")
  asked = code.humaneval(config.humaneval_file, sandbox)
  return (
    task,
    rows,
    [replace(row, responses=()) for row in rows[config.data.traces :]],
    Measured("hard", asked.rows("test")[: e.problems], e.problems, asked),
  )


def filtered(
  lab: Lab, coder: str, generate: Generate, params: Params
) -> Survey:
  """Returns the prompts that are neither out of reach nor solved.

  Of 16 samples, `data.least_passes` to `data.most_passes` are right (the paper:
  1 to 14). Decided once a coder, by the shallowest checkpoint of its first
  seed, for all depths alike: a filter of each checkpoint's own would confound.

  Args:
    lab: problems and keys.
    coder: whose checkpoint it is; names the file that keeps the decision.
    generate: sampler of 16 completions.
    params: the shallowest checkpoint.

  Raises:
    ValueError: no prompt is left.
  """
  data, prompts = lab.config.data, lab.problems.training["prompts"]
  path = lab.workdir.parent / f"passes-{coder}.json"
  if not distributed.from_writer(path.is_file()):
    passes = _passes(lab, prompts, generate, params)
    if distributed.is_writer():
      wholefile.write_text(path, json.dumps(passes.tolist()))
  passes = np.array(distributed.from_writer(_read(path)))
  kept = (data.least_passes <= passes) & (passes <= data.most_passes)
  logging.info(
    "%s: %d of %d prompts are right %d to %d times of %d",
    coder, kept.sum(), kept.size, data.least_passes, data.most_passes,
    FILTER_SAMPLES,
  )  # fmt: skip
  if not kept.any():
    raise ValueError(
      f"of {kept.size} prompts none was right {data.least_passes} to"
      f" {data.most_passes} times of {FILTER_SAMPLES}, expected some: give more"
      " data.train_problems, or a longer or shorter SFT"
    )
  return prompts._replace(
    kept=prompts.kept[kept], buckets=prompts.buckets[kept]
  )


def _read(path: pathlib.Path) -> list[int]:
  return json.loads(path.read_text()) if path.is_file() else []


def _passes(
  lab: Lab, prompts: Survey, generate: Generate, params: Params
) -> np.ndarray:
  """Returns i64[K] how many samples of every prompt pass."""
  rows = [prompts.row(i) for i in range(len(prompts.kept))]
  found = harness.evaluate(
    harness.make_problem_set(
      "passes",
      rows,
      lab.problems.encoder,
      lab.config.evaluation.prompts,
      task=lab.problems.task,
    ),
    experience.everywhere(generate, lab.mesh),
    params,
    jax.random.fold_in(lab.evaluation_key, 1),
    decode=lab.problems.chat.decode,
  )
  return found.accuracy.sum(1).astype(int)
