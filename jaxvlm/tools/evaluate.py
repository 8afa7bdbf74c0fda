"""Accuracy and pass@k of a model folder, with intervals over problems.

Measured are the problems of a task (--task, --data_dir), your own rows (--data,
--reward), or without either those of the generated world. Prints what was asked
for, found and measured, and a digest of the problems; --out stores it beside
every answer, the numbers of every problem and sample, and a page with the
problems that went worst. A start with the same --out and settings draws only
the answers that are not there yet.
"""

import contextlib
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh

from jaxvlm import __version__, distributed, program, sharding, wholefile
from jaxvlm import config as configs
from jaxvlm.data.rows import Bucket, Encoder
from jaxvlm.diagnostics.bootstrap import Interval
from jaxvlm.distributed import DistributedConfig
from jaxvlm.eval import drawn, harness
from jaxvlm.eval import result as numbers
from jaxvlm.eval.drawn import Log
from jaxvlm.eval.harness import Evaluation, ProblemSet
from jaxvlm.models import fingerprint
from jaxvlm.sampling import Sampling, root_key
from jaxvlm.tasks import check_readable, plugin
from jaxvlm.tools import compute, output, sets, shapes
from jaxvlm.tools import folder as folders
from jaxvlm.tools.compute import ComputeConfig
from jaxvlm.tools.problems import NAMES, Wanted
from jaxvlm.tools.sets import Asked
from jaxvlm.train import experience

_MODEL = configs.define_path(
  "model_dir", "nano-base", "Hugging Face folder, or a shipped model's name"
)
_AGAINST = configs.define_path(
  "against", "", "another model folder, measured on the same problems"
)
_TASK = flags.DEFINE_enum(
  "task", None, NAMES, "whose problems are measured; default: the"
  " world, or geometry3k with a --data_dir"
)  # fmt: skip
_FOLDER = configs.define_path(
  "data_dir", "", "folder, or file, of the task's data, if it needs one"
)
_DATA = configs.define_path(
  "data", "", "rows of your own instead: a file, a folder, hub:owner/name"
)
_REWARD = flags.DEFINE_string(
  "reward", "answer", "what scores answers to --data: a name,"
  " module:function or file.py:function"
)  # fmt: skip
_REWARD_SECONDS = flags.DEFINE_float(
  "reward_seconds", plugin.SECONDS, "longest that a reward function of yours"
  " may take for an answer, seconds"
)  # fmt: skip
_LAYOUT = flags.DEFINE_string(
  "layout", "", "of --data; empty: found by the fields"
)
_SPLIT = flags.DEFINE_string("split", "", "split; default: what the task says")
_PROBLEMS = flags.DEFINE_integer(
  "problems", None, "problems per set; -1: all. Default: all, 210 of what is"
  " generated and has no end"
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
_JSON = output.define_json()
_GROUPS = {
  "The problems": ("task", "data_dir", "data", "reward", "split", "problems"),
  "The model": ("model_dir", "against", "bfloat16"),
  "The answers": ("samples", "temperature", "max_new_tokens", "batch", "seed"),
  "The results": ("out", "json"),
}


def main() -> None:
  cluster = configs.from_flags(DistributedConfig(), prefix="distributed")
  kept = f"{_OUT.value} keeps the answers drawn so far, the same command"
  with (
    program.on_interrupt(f"{kept} draws the rest" if _OUT.value else ""),
    distributed.session(cluster),
  ):
    _evaluate(configs.from_flags(ComputeConfig()))


def _evaluate(config: ComputeConfig) -> None:
  # What is wrong with flags and data is said before the weights are read.
  sampling, key = Sampling(_TEMPERATURE.value), root_key(_SEED.value)
  mesh = compute.make_mesh(config)
  sharding.check_rows(mesh, _BATCH.value)
  with _asked() as asked:
    _measure(config, asked, sampling, key, mesh)


def _measure(
  config: ComputeConfig,
  asked: Asked,
  sampling: Sampling,
  key: jax.Array,
  mesh: Mesh,
) -> None:
  models = [path for path in (_MODEL.value, _AGAINST.value) if path]
  measured = [_problems(asked, path) for path in models]
  found: list[dict[str, dict[str, np.ndarray]]] = []
  told = []
  for path, (encoder, problem_sets) in zip(models, measured, strict=True):
    with jax.set_mesh(mesh):
      model = folders.load(path, config.dtype, mesh)
      generate = experience.everywhere(
        model.sampler(
          _SAMPLES.value, sampling, _LENGTH.value, dtype=config.dtype
        ),
        mesh,
      )
      record = _record(config, encoder, path)
      values = {}
      for problems in problem_sets:
        out = _place(problems.name, against=bool(found))
        result = harness.evaluate(
          problems,
          generate,
          model.params,
          key,
          decode=model.chat.decode,
          show_progress=distributed.is_writer(),
          log=_log(out, problems, record) if out else None,
        )
        values[problems.name] = numbers.per_problem(
          result, problems.task.metrics
        )
        others = found[0][problems.name] if found else None
        if distributed.is_writer():
          told += _tell(
            problems, result, values[problems.name], record, others, out
          )
      found.append(values)
  if distributed.is_writer():
    output.write(_JSON, told)


def _tell(
  problems: ProblemSet,
  result: Evaluation,
  values: Mapping[str, np.ndarray],
  record: Mapping[str, Any],
  others: Mapping[str, np.ndarray] | None,
  out: pathlib.Path | None,
) -> list[dict[str, Any]]:
  """Prints and stores what was measured; returns it if anybody reads it."""
  if output.in_words(_JSON):
    _show(problems, result, values, others)
  if not (out or _JSON.value):
    return []
  differences = numbers.differences(values, others) if others else None
  whole = _whole(problems, result, values, record, differences)
  if out:
    _store(out, problems, result, whole, differences)
  return [whole]


def _asked() -> contextlib.AbstractContextManager[Asked]:
  count = _PROBLEMS.value
  if count is not None and count < 1 and count != -1:
    raise ValueError(f"problems is {count}, expected at least 1, or -1 for all")
  if not _DATA.value:
    name = _TASK.value or ("geometry3k" if _FOLDER.value else "world")
    return sets.of_task(Wanted(name, _FOLDER.value, _SPLIT.value), count)
  if _TASK.value or _FOLDER.value:
    raise ValueError(
      f"data is {_DATA.value!r} beside a task or its folder; expected one of"
      " them: rows of your own are scored by --reward"
    )
  return sets.of_user(
    _DATA.value,
    _REWARD.value,
    _SPLIT.value,
    _LAYOUT.value,
    count,
    _MAX_MISSING.value,
    _REWARD_SECONDS.value,
  )


def _problems(asked: Asked, path: str) -> tuple[Encoder, list[ProblemSet]]:
  """Returns the problems as a model reads them."""
  limits, chat = folders.describe(path)
  check_readable(asked.task, chat)
  budget = chat.pictures.budget.replaced(_MIN_PIXELS.value, _MAX_PIXELS.value)
  every = [row for rows, _ in asked.sets.values() for row in rows]
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
  return encoder, [
    harness.make_problem_set(
      name,
      rows,
      encoder,
      _BATCH.value,
      task=asked.task,
      asked=count,
      max_missing=_MAX_MISSING.value,
    )
    for name, (rows, count) in asked.sets.items()
  ]


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


def _show(
  problems: ProblemSet,
  result: Evaluation,
  values: Mapping[str, np.ndarray],
  others: Mapping[str, np.ndarray] | None,
) -> None:
  """Prints the numbers; of a second model how it differs from the first."""
  if others is not None:
    print(f"{problems.name}: {_MODEL.value} minus {_AGAINST.value}, paired")
    print("\n".join(numbers.in_lines(numbers.differences(others, values))))
    return
  print(
    f"{problems.name}: {len(problems.rows)} problems × {_SAMPLES.value}"
    f" samples, {problems.asked} asked for, digest {problems.digest[:12]}"
  )
  shown = numbers.intervals(values)
  if not (_TASK.value or _DATA.value):
    names = (*problems.task.metrics, *(f"pass@{k}" for k in (2, 4, 8, 16)))
    shown = {k: v for k, v in shown.items() if k in (*names, "entropy (nats)")}
  print("\n".join(numbers.in_lines(shown)))


def _place(name: str, *, against: bool) -> pathlib.Path | None:
  """Returns where the files of a problem set begin; None without --out."""
  if not _OUT.value:
    return None
  out = pathlib.Path(_OUT.value)
  return (out / "against" if against else out) / name


def _record(
  config: ComputeConfig, encoder: Encoder, path: str
) -> dict[str, Any]:
  """Returns everything that repeats a measurement: plain JSON."""
  return {
    "model_dir": str(folders.locate(path).absolute()),
    "model": fingerprint(folders.locate(path)),
    "template": encoder.chat.fingerprint,
    "data_dir": _FOLDER.value,
    "data": _DATA.value,
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


def _log(
  out: pathlib.Path, problems: ProblemSet, record: Mapping[str, Any]
) -> Log:
  """Returns the file of answers, which goes on where all of this is equal."""
  drawn_with = {
    **record,
    "digest": problems.digest,
    "prompts": problems.prompts_digest,
    "device_layout": sharding.device_layout(),
  }
  for name in ("command", "model_dir", "data", "data_dir"):
    del drawn_with[name]  # how it is called, not what it is
  file = out.with_name(out.name + drawn.SUFFIX)
  return Log(file, drawn_with, [row.id for row in problems.rows])


def _whole(
  problems: ProblemSet,
  result: Evaluation,
  values: Mapping[str, np.ndarray],
  record: Mapping[str, Any],
  differences: Mapping[str, Interval] | None,
) -> dict[str, Any]:
  """Returns the numbers of a problem set with all that repeats them."""
  whole = {
    "name": problems.name,
    **problems.record(),
    "task": problems.task.name,
    "grader": problems.task.version or __version__,
    "prompts": problems.prompts_digest,
    "scores": numbers.plain(numbers.intervals(values)),
    **numbers.calibration(result),
    **record,
  }
  if differences is not None:
    whole["against"] = str(folders.locate(_MODEL.value).absolute())
    whole["differences"] = numbers.plain(differences)
  return whole


def _store(
  out: pathlib.Path,
  problems: ProblemSet,
  result: Evaluation,
  whole: Mapping[str, Any],
  differences: Mapping[str, Interval] | None,
) -> None:
  """Writes arrays, record and page; what stood there is replaced."""
  out.parent.mkdir(parents=True, exist_ok=True)
  with wholefile.writing(out.with_name(f"{out.name}.npz")) as file:
    np.savez(file, **result.to_arrays())
  text = json.dumps(output.plain(whole), indent=1) + "\n"
  wholefile.write_text(out.with_name(f"{out.name}.json"), text)
  page = numbers.page(problems, result, whole, differences)
  wholefile.write_text(out.with_name(f"{out.name}.html"), page)


def run() -> None:
  program.run(main, "jaxvlm evaluate", groups=_GROUPS)
