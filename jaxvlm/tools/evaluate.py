"""Accuracy and pass@k of a model folder, with intervals over problems.

Prints what was asked for, found and measured, and a digest of the problems;
--out stores it beside the numbers of every problem and sample.
"""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from jaxvlm import __version__, distributed, program, sharding, wholefile
from jaxvlm import config as configs
from jaxvlm.data import diagrams
from jaxvlm.data.rows import Bucket, Encoder, Row
from jaxvlm.diagnostics import bootstrap_interval
from jaxvlm.distributed import DistributedConfig
from jaxvlm.eval import harness
from jaxvlm.eval.harness import Evaluation, ProblemSet
from jaxvlm.models import fingerprint
from jaxvlm.sampling import Sampling, root_key
from jaxvlm.tasks import Task, check_readable, geometry3k, world
from jaxvlm.tools import compute, shapes
from jaxvlm.tools import folder as folders
from jaxvlm.tools.compute import ComputeConfig
from jaxvlm.train import experience

_MODEL = configs.define_path(
  "model_dir", "nano-base", "Hugging Face folder, or a shipped model's name"
)
_DATA = configs.define_path(
  "data_dir", "", "Geometry3K folder; empty: the generated world"
)
_SPLIT = flags.DEFINE_string("split", "val", "split of --data_dir")
_PROBLEMS = flags.DEFINE_integer(
  "problems", None, "problems per set; -1: all of --data_dir. Default: all of"
  " --data_dir, 210 of the world, which has no end"
)  # fmt: skip
_MAX_MISSING = flags.DEFINE_float(
  "max_missing", 0.0, "share of them that may be absent or unusable"
)
_SAMPLES = flags.DEFINE_integer(
  "samples", 16, "samples per problem", lower_bound=1
)
_BATCH = flags.DEFINE_integer("batch", 30, "problems in a batch", lower_bound=1)
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "0 means argmax")
_LENGTH = flags.DEFINE_integer(
  "max_new_tokens", 44, "longest answer", lower_bound=1
)
_PROMPT_TOKENS = flags.DEFINE_list(
  "prompt_tokens", [], "longest prompt of each bucket of prompts, ascending;"
  " a prompt that fits none is missing. Default: what the problems need"
)  # fmt: skip
_PATCHES = flags.DEFINE_list(
  "patch_slots", [], "patch slots of each bucket; default: as many as needed"
)
_MIN_PIXELS = flags.DEFINE_integer(
  "min_pixels", None, "smallest picture; default: as the folder says"
)
_MAX_PIXELS = flags.DEFINE_integer(
  "max_pixels", None, "largest picture; default: as the folder says"
)
_SEED = flags.DEFINE_integer("seed", 0, "root of the samples")
_OUT = configs.define_path(
  "out", "", "folder for per-problem arrays (.npz) and their record (.json)"
)
configs.define_flags(ComputeConfig())
configs.define_flags(DistributedConfig(), prefix="distributed")

_WORLD = 210


def main() -> None:
  cluster = configs.from_flags(DistributedConfig(), prefix="distributed")
  with distributed.session(cluster):
    _evaluate(configs.from_flags(ComputeConfig()))


def _evaluate(config: ComputeConfig) -> None:
  # What is wrong with flags and data is said before the weights are read.
  sampling, key = Sampling(_TEMPERATURE.value), root_key(_SEED.value)
  mesh = compute.make_mesh(config)
  sharding.check_rows(mesh, _BATCH.value)
  task, asked = _sets()
  limits, chat = folders.describe(_MODEL.value)
  check_readable(task, chat)
  budget = chat.pictures.budget.replaced(_MIN_PIXELS.value, _MAX_PIXELS.value)
  every = [row for rows, _ in asked.values() for row in rows]
  buckets = _buckets(shapes.buckets_for(every, chat, budget))
  encoder = Encoder(chat, budget, buckets, _LENGTH.value)
  longest = buckets[-1].prompt_tokens + _LENGTH.value
  if longest > limits.max_position_embeddings:
    raise ValueError(
      f"prompts of {buckets[-1].prompt_tokens} tokens and answers of"
      f" {_LENGTH.value} make {longest}, expected at most"
      f" {limits.max_position_embeddings}, which the model was made for; lower"
      " max_new_tokens or max_pixels, or give prompt_tokens and patch_slots"
    )
  sets = [
    harness.make_problem_set(
      name,
      rows,
      encoder,
      _BATCH.value,
      task=task,
      asked=count,
      max_missing=_MAX_MISSING.value,
    )
    for name, (rows, count) in asked.items()
  ]
  with jax.set_mesh(mesh):
    model = folders.load(_MODEL.value, config.dtype, mesh)
    generate = experience.everywhere(
      model.sampler(
        _SAMPLES.value, sampling, _LENGTH.value, dtype=config.dtype
      ),
      mesh,
    )
    for problems in sets:
      result = harness.evaluate(
        problems,
        generate,
        model.params,
        key,
        decode=model.chat.decode,
        show_progress=distributed.is_writer(),
      )
      if distributed.is_writer():
        _report(problems, result)
        if _OUT.value:
          record = {**problems.record(), **_record(config, encoder)}
          _store(pathlib.Path(_OUT.value), result, record)


def _sets() -> tuple[Task, dict[str, tuple[Sequence[Row], int]]]:
  """Returns the task, and name -> (problems, how many were asked for)."""
  count = _PROBLEMS.value
  if count is not None and count < 1 and count != -1:
    raise ValueError(f"problems is {count}, expected at least 1, or -1 for all")
  if _DATA.value:
    task = geometry3k.task(_DATA.value)
    rows = task.rows(_SPLIT.value)
    count = len(rows) if count in (None, -1) else count
    return task, {_SPLIT.value: (rows[:count], count)}
  if count == -1:
    raise ValueError(
      "problems is -1 (all), and the generated world has no end; expected a"
      " number, or a --data_dir"
    )
  count, task = count or _WORLD, world.task()
  return task, {
    name: (list(task.rows(split.name)[:count]), count)
    for name, split in (
      ("in_domain", diagrams.VALIDATION),
      ("out_of_domain", diagrams.VALIDATION_OOD),
    )
  }


def _buckets(needed: tuple[Bucket, ...]) -> tuple[Bucket, ...]:
  """Returns the buckets that the flags ask for, in the place of the needed."""
  largest = needed[-1]
  if not (_PROMPT_TOKENS.value or _PATCHES.value):
    return needed
  try:
    lengths, slots = (
      [int(word) for word in flag.value] for flag in (_PROMPT_TOKENS, _PATCHES)
    )
  except ValueError as error:
    raise ValueError(
      f"prompt_tokens is {','.join(_PROMPT_TOKENS.value)} and patch_slots"
      f" {','.join(_PATCHES.value)}; expected integers with commas between"
    ) from error
  lengths = lengths or [largest.prompt_tokens] * len(slots)
  slots = slots or [largest.patch_slots] * len(lengths)
  if len(lengths) != len(slots):
    raise ValueError(
      f"prompt_tokens has {len(lengths)} bucket(s) and patch_slots"
      f" {len(slots)}; expected one of each per bucket"
    )
  return tuple(map(Bucket, lengths, slots))


def _report(problems: ProblemSet, result: Evaluation) -> None:
  print(
    f"{problems.name}: {len(problems.rows)} problems × {_SAMPLES.value}"
    f" samples, {problems.asked} asked for, digest {problems.digest[:12]}"
  )
  rows_of = {}
  for name in problems.task.metrics:
    rows_of[name] = result.scores[name].mean(1)
    if name == "accuracy":
      for k in (2, 4, 8, 16):
        if k <= _SAMPLES.value:
          rows_of[f"pass@{k}"] = result.pass_at(k)
  rows_of["entropy (nats)"] = result.entropy()
  for label, values in rows_of.items():
    i = bootstrap_interval(values)
    print(f"  {label:16s}{i.mean:7.3f}   [{i.low:.3f}, {i.high:.3f}]")


def _record(config: ComputeConfig, encoder: Encoder) -> dict[str, Any]:
  """Returns everything that repeats a measurement: plain JSON."""
  return {
    "model_dir": str(folders.locate(_MODEL.value).absolute()),
    "model": fingerprint(folders.locate(_MODEL.value)),
    "data_dir": _DATA.value,
    "samples": _SAMPLES.value,
    "temperature": _TEMPERATURE.value,
    "max_new_tokens": _LENGTH.value,
    "seed": _SEED.value,
    "batch": _BATCH.value,
    "min_pixels": encoder.budget.min_pixels,
    "max_pixels": encoder.budget.max_pixels,
    "prompt_tokens": [bucket.prompt_tokens for bucket in encoder.buckets],
    "patch_slots": [bucket.patch_slots for bucket in encoder.buckets],
    **configs.to_json(config),
    "command": " ".join(sys.argv[1:]),
    "version": __version__,
    "jax": jax.__version__,
  }


def _store(
  out: pathlib.Path, result: Evaluation, record: dict[str, Any]
) -> None:
  """Writes arrays and record; what stood there is replaced by the whole."""
  out.mkdir(parents=True, exist_ok=True)
  with wholefile.writing(out / f"{result.name}.npz") as file:
    np.savez(file, **result.to_arrays())
  text = json.dumps(record, indent=1) + "\n"
  wholefile.write_text(out / f"{result.name}.json", text)


def run() -> None:
  program.run(main, "jaxvlm evaluate")
