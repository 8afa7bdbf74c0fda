"""Will group-relative RL get anywhere from this checkpoint? Asked beforehand.

Samples problems, measures entropy, pass@k, diversity and the share of groups
that would carry a gradient, and says what follows, with intervals. Several
checkpoints (--model_dir=a,b,c) are ranked. --out keeps numbers, figures and a
page. --calibrate learns the threshold of entropy from runs of one's own.
"""

import json
import logging
import math
import pathlib

import jax
import numpy as np
from absl import flags

from jaxvlm import config as configs
from jaxvlm import models, program, sharding, wholefile
from jaxvlm.data import chat as chats
from jaxvlm.data.rows import Encoder
from jaxvlm.data.sources.code import Style
from jaxvlm.data.sources.records import records
from jaxvlm.diagnostics.collapse import (
  ENTROPY_THRESHOLD,
  Calibration,
  calibrate,
)
from jaxvlm.diagnostics.headroom import headroom_threshold
from jaxvlm.diagnostics.readiness import Readiness, judge, rank
from jaxvlm.eval import harness
from jaxvlm.eval.harness import ProblemSet
from jaxvlm.rewards.code import Level
from jaxvlm.rollout.probe import make_prompt_entropy
from jaxvlm.sampling import Sampling, root_key
from jaxvlm.tasks import Task, check_readable
from jaxvlm.tools import compute, diagnosis, output, problems, shapes
from jaxvlm.tools import folder as folders
from jaxvlm.tools.compute import ComputeConfig
from jaxvlm.tools.problems import Wanted

_MODELS = flags.DEFINE_list(
  "model_dir", ["nano-base"], "folders, or shipped models; commas between"
)
_TASK = flags.DEFINE_enum("task", "world", problems.NAMES, "what is asked")
_DATA = configs.define_path("data", "", "the task's file or folder")
_SPLIT = flags.DEFINE_string("split", "", "default: the one that measures")
_STYLE = flags.DEFINE_enum_class(
  "style", Style.CHAT, Style, "how code problems are put"
)
_LEVEL = flags.DEFINE_enum_class(
  "sandbox", Level.NAMESPACES, Level, "how programs are walled in"
)
_GROUP = flags.DEFINE_integer("group_size", 8, "of the RL to come")
_PROBLEMS = flags.DEFINE_integer("problems", 40, "problems", lower_bound=2)
_SAMPLES = flags.DEFINE_integer("samples", 32, "samples of each", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", 40, "problems in a batch", lower_bound=1)
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "of the RL to come")
_LENGTH = flags.DEFINE_integer(
  "max_new_tokens", None, "longest answer; default: the task's"
)
_THRESHOLD = flags.DEFINE_float(
  "threshold", ENTROPY_THRESHOLD, "nats; entropy below it is flagged"
)
_CALIBRATE = configs.define_path(
  "calibrate",
  "",
  "JSONL of finished runs, each with entropy (nats, before RL), before and"
  " after (a score, such as pass@10); the threshold is learned from them",
)
_SEED = flags.DEFINE_integer("seed", 0, "root of the samples")
_OUT = configs.define_path("out", "", "folder for page, figures and numbers")
configs.define_flags(ComputeConfig())
_JSON = output.define_json()
_GROUPS = {
  "The checkpoints": ("model_dir", "bfloat16"),
  "The problems": ("task", "data", "split", "problems", "samples"),
  "The RL to come": ("group_size", "temperature", "max_new_tokens"),
  "The verdict": ("threshold", "calibrate", "out", "json"),
}


def main() -> None:
  config = configs.from_flags(ComputeConfig())
  wanted = Wanted(
    _TASK.value, _DATA.value, _SPLIT.value, _STYLE.value, _LEVEL.value
  )
  known = problems.known(wanted)
  _check_numbers()
  threshold = _THRESHOLD.value
  if _CALIBRATE.value:
    found = calibrate(*_ladder(pathlib.Path(_CALIBRATE.value)))
    threshold = found.threshold
    if output.in_words(_JSON):
      print(_of_calibration(found))
  mesh = compute.make_mesh(config)
  sharding.check_rows(mesh, _BATCH.value)
  with problems.opened(wanted) as task, jax.set_mesh(mesh):
    rows = list(task.rows(wanted.split or known.split)[: _PROBLEMS.value])
    if len(rows) < _PROBLEMS.value:
      logging.warning("there are %d problems, %d asked for", len(rows),
                      _PROBLEMS.value)  # fmt: skip
    length = _LENGTH.value or known.tokens
    ranked = rank(
      [
        _measure(name, task, rows, length, threshold, config, mesh)
        for name in _MODELS.value
      ]
    )
  if output.in_words(_JSON):
    for place, one in enumerate(ranked, 1):
      print(diagnosis.in_words(one, place if len(ranked) > 1 else None))
  output.write(_JSON, ranked)
  if _OUT.value:
    _store(pathlib.Path(_OUT.value), task, ranked)


def _check_numbers() -> None:
  """Says what is wrong with numbers before a model is read."""
  headroom_threshold(_GROUP.value)
  if _SAMPLES.value < _GROUP.value:
    raise ValueError(
      f"samples is {_SAMPLES.value}, expected at least group_size,"
      f" {_GROUP.value}: groups of so many are judged"
    )
  if not _TEMPERATURE.value > 0:
    raise ValueError(
      f"temperature is {_TEMPERATURE.value}, expected a positive one: samples"
      " that are all alike say nothing of groups"
    )


def _measure(
  name: str,
  task: Task,
  rows: list,
  length: int,
  threshold: float,
  config: ComputeConfig,
  mesh: jax.sharding.Mesh,
) -> Readiness:
  limits, chat = folders.describe(name)
  if _STYLE.value is Style.COMPLETION:
    chat = chats.completing(chat)
  check_readable(task, chat)
  budget = chat.pictures.budget
  buckets = shapes.buckets_for(rows, chat, budget)
  longest = buckets[-1].prompt_tokens + length
  if longest > limits.max_position_embeddings:
    raise ValueError(
      f"{name}: prompts of {buckets[-1].prompt_tokens} tokens and answers of"
      f" {length} make {longest}, expected at most"
      f" {limits.max_position_embeddings}; lower max_new_tokens"
    )
  batch = min(_BATCH.value, len(rows))
  encoder = Encoder(chat, budget, buckets, length)
  problem_set = harness.make_problem_set(name, rows, encoder, batch, task=task)
  model = folders.load(name, config.dtype, mesh)
  model = folders.Folder(model.config, model.params, chat)
  result = harness.evaluate(
    problem_set,
    model.sampler(
      _SAMPLES.value,
      Sampling(_TEMPERATURE.value),
      length,
      stop=task.stop,
      dtype=config.dtype,
    ),
    model.params,
    root_key(_SEED.value),
    decode=chat.decode,
    show_progress=True,
  )
  return judge(
    name,
    result.accuracy,
    result.entropy(),
    result.answers,
    prompt_entropies=_prompt_entropies(model, problem_set, config),
    g=_GROUP.value,
    threshold=threshold,
  )


def _prompt_entropies(
  model: folders.Folder, problem_set: ProblemSet, config: ComputeConfig
) -> np.ndarray | None:
  """Returns f64[P]; None where prompts have pictures, which are no words."""
  if any(row.images for row in problem_set.rows):
    return None
  mean = make_prompt_entropy(
    models.bind(model.config, dtype=config.dtype),
    vocab_size=model.chat.vocab_size,
  )
  out = np.zeros(len(problem_set.rows))
  for prompts, index in problem_set.batches:
    values = mean(model.params, prompts)
    real = index >= 0
    out[index[real]] = values[real]
  return out


def _ladder(file: pathlib.Path) -> tuple[list[float], list[bool]]:
  """Returns (entropies, which runs ended below where they began)."""
  entropies, collapsed = [], []
  for number, record in records(file):
    try:
      entropy, before, after = (
        float(record[name]) for name in ("entropy", "before", "after")
      )
      if not all(map(math.isfinite, (entropy, before, after))):
        raise ValueError("not finite")
    except (KeyError, TypeError, ValueError) as error:
      raise ValueError(
        f"{file}, line {number}: {type(error).__name__} {error}; expected a"
        " JSON object with the numbers entropy, before and after"
      ) from error
    entropies.append(entropy)
    collapsed.append(after < before)
  return entropies, collapsed


def _of_calibration(found: Calibration) -> str:
  seen, left = found.confusion, found.left_out
  return (
    f"threshold {found.threshold:.3f} nats"
    f" [{found.low:.3f}, {found.high:.3f}], learned from"
    f" {sum(seen)} runs: of {seen.caught + seen.missed} that collapsed it flags"
    f" {seen.caught}, of {seen.spared + seen.alarmed} others {seen.alarmed};"
    f" left out, the others' threshold flags {left.caught} and {left.alarmed}\n"
  )


def _store(out: pathlib.Path, task: Task, ranked: list[Readiness]) -> None:
  """Writes the page, its figures and the numbers."""
  out.mkdir(parents=True, exist_ok=True)
  figures = diagnosis.figures(ranked)
  for name, picture in figures.items():
    with wholefile.writing(out / f"{name}.png") as file:
      file.write(picture.png)
    wholefile.write_text(out / f"{name}.csv", picture.csv)
  text = diagnosis.page(task.name, ranked, figures)
  wholefile.write_text(out / "diagnosis.html", text)
  text = json.dumps(output.plain(ranked), indent=1) + "\n"
  wholefile.write_text(out / "diagnosis.json", text)
  if output.in_words(_JSON):
    print(f"page: {out / 'diagnosis.html'}")


def run() -> None:
  program.run(main, "jaxvlm diagnose", groups=_GROUPS)
