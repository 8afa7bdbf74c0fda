"""Accuracy and pass@k of a model folder, with intervals over problems."""

import pathlib

import numpy as np
from absl import app, flags

from jaxvlm.data import diagrams
from jaxvlm.data.rows import Bucket, Encoder
from jaxvlm.data.sources import geometry3k
from jaxvlm.data.sources.world import WorldRows
from jaxvlm.diagnostics import bootstrap_interval
from jaxvlm.eval import harness
from jaxvlm.rewards import geometry3k_reward
from jaxvlm.sampling import Sampling, root_key
from jaxvlm.tools import folder as folders

_MODEL = flags.DEFINE_string(
  "model_dir", "nano-base", "Hugging Face folder, or a shipped model's name"
)
_DATA = flags.DEFINE_string(
  "data_dir", "", "Geometry3K folder; empty: the generated world"
)
_SPLIT = flags.DEFINE_string("split", "val", "split of --data_dir")
_PROBLEMS = flags.DEFINE_integer("problems", 210, "problems per set")
_SAMPLES = flags.DEFINE_integer("samples", 16, "samples per problem")
_BATCH = flags.DEFINE_integer("batch", 30, "problems in a batch")
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "0 means argmax")
_LENGTH = flags.DEFINE_integer("max_new_tokens", 44, "longest answer")
_PROMPT_TOKENS = flags.DEFINE_integer("prompt_tokens", 56, "longest prompt")
_PATCHES = flags.DEFINE_integer("patch_slots", 64, "patch slots per prompt")
_MIN_PIXELS = flags.DEFINE_integer(
  "min_pixels", None, "smallest picture, pixels; empty: as the folder says"
)
_MAX_PIXELS = flags.DEFINE_integer(
  "max_pixels", None, "largest picture, pixels; empty: as the folder says"
)
_SEED = flags.DEFINE_integer("seed", 0, "root of the samples")
_OUT = flags.DEFINE_string("out", "", "folder for per-problem arrays (.npz)")


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}; see --help")
  model = folders.load(_MODEL.value)
  encoder = Encoder(
    model.chat,
    model.chat.pictures.budget.replaced(_MIN_PIXELS.value, _MAX_PIXELS.value),
    (Bucket(_PROMPT_TOKENS.value, _PATCHES.value),),
    _LENGTH.value,
  )
  generate = model.sampler(
    _SAMPLES.value, Sampling(_TEMPERATURE.value), _LENGTH.value
  )
  for name, rows in _sets().items():
    result = harness.evaluate(
      harness.make_problem_set(name, rows, encoder, _BATCH.value),
      generate,
      model.params,
      root_key(_SEED.value),
      decode=model.chat.decode,
      reward=geometry3k_reward,
      show_progress=True,
    )
    print(f"{name}: {len(result.accuracy)} problems × {_SAMPLES.value} samples")
    rows_of = {"accuracy": result.accuracy.mean(1)}
    for k in (2, 4, 8, 16):
      if k <= _SAMPLES.value:
        rows_of[f"pass@{k}"] = result.pass_at(k)
    rows_of["entropy (nats)"] = result.entropy()
    for label, values in rows_of.items():
      bounds = None if label.startswith("entropy") else (0.0, 1.0)
      i = bootstrap_interval(values, bounds=bounds)
      print(f"  {label:16s}{i.mean:7.3f}   [{i.low:.3f}, {i.high:.3f}]")
    if _OUT.value:
      out = pathlib.Path(_OUT.value)
      out.mkdir(parents=True, exist_ok=True)
      np.savez(out / f"{name}.npz", **result.to_arrays())


def _sets():
  if _DATA.value:
    rows = geometry3k.rows(_DATA.value, _SPLIT.value)
    return {_SPLIT.value: rows[: _PROBLEMS.value]}
  return {
    "in_domain": WorldRows(diagrams.VALIDATION, _PROBLEMS.value),
    "out_of_domain": WorldRows(diagrams.VALIDATION_OOD, _PROBLEMS.value),
  }


def run() -> None:
  app.run(main)
