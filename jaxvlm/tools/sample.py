"""Answers a question about a picture, several times if asked.

Text appears as it is drawn. With several answers the first unfinished one is
shown live, the others behind it in order.

With --data it answers the questions of a file, and writes those answers that
are right to --out, as rows to learn from: a teacher's traces.
"""

import logging
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from absl import flags

from jaxvlm import __version__, models, program, sharding
from jaxvlm import config as configs
from jaxvlm.data.rows import Encoder
from jaxvlm.rollout.answer import Request, Word, answer, prepare
from jaxvlm.sampling import Sampling, root_key
from jaxvlm.tools import compute, output, shapes, show, traces
from jaxvlm.tools import folder as folders
from jaxvlm.tools.compute import ComputeConfig
from jaxvlm.train import experience

_MODEL = configs.define_path(
  "model_dir", "nano-base", "Hugging Face folder, or a shipped model's name"
)
_IMAGE = configs.define_paths("image", "picture; may be repeated")
_PROMPT = flags.DEFINE_string(
  "prompt", None, "the question; required without --data"
)
_N = flags.DEFINE_integer("n", 1, "number of answers")
_SEED = flags.DEFINE_integer("seed", 0, "root of the samples")
_LENGTH = flags.DEFINE_integer("max_new_tokens", 256, "longest answer")
_STOP = flags.DEFINE_multi_string(
  "stop", [], "text that ends an answer and belongs to it; may be repeated"
)
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "0 means argmax")
_TOP_K = flags.DEFINE_integer("top_k", 0, "0 keeps all tokens")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "probability mass to keep")
_MIN_P = flags.DEFINE_float("min_p", 0.0, "fraction of the best to keep")
_MIN_PIXELS = flags.DEFINE_integer(
  "min_pixels", None, "smallest picture; default: as the folder says"
)
_MAX_PIXELS = flags.DEFINE_integer(
  "max_pixels", None, "largest picture; default: as the folder says"
)
_COLOR = flags.DEFINE_bool(
  "color_entropy", False, "paint tokens by their entropy, blue to red"
)
_DATA = configs.define_path(
  "data", "", "questions with answers instead: a file, a folder, hub:owner/name"
)
_SPLIT = flags.DEFINE_string("split", "", "split of --data")
_PICTURES = configs.define_path(
  "pictures", "", "folder of the pictures of --data; default: that of the data"
)
_OUT = configs.define_path(
  "out", "traces.jsonl", "where the answers to --data are written"
)
_KEEP = flags.DEFINE_enum(
  "keep", "right", ["right", "all"], "which answers to --data are written"
)
_MOST = flags.DEFINE_integer(
  "most", 1, "answers written of each question of --data", lower_bound=1
)
_BATCH = flags.DEFINE_integer(
  "batch", 8, "questions of --data in a batch", lower_bound=1
)


configs.define_flags(ComputeConfig())
_JSON = output.define_json()
_GROUPS = {
  "The question": ("image", "prompt", "n", "max_new_tokens", "stop", "seed"),
  "How tokens are drawn": ("temperature", "top_k", "top_p", "min_p"),
  "The model": ("model_dir", "bfloat16"),
  "Many questions": ("data", "out", "keep", "most"),
  "What is printed": ("color_entropy", "json"),
}


def main() -> None:
  config = configs.from_flags(ComputeConfig())
  if _DATA.value:
    _write_traces(config)
    return
  if _PROMPT.value is None:
    raise ValueError("there is no prompt: expected --prompt, or --data")
  request = Request(
    _PROMPT.value,
    tuple(_IMAGE.value),
    n=_N.value,
    sampling=Sampling(
      _TEMPERATURE.value, _TOP_K.value, _TOP_P.value, _MIN_P.value
    ),
    max_new_tokens=_LENGTH.value,
    stop=tuple(_STOP.value),
    seed=_SEED.value,
    min_pixels=_MIN_PIXELS.value,
    max_pixels=_MAX_PIXELS.value,
  )
  # What is wrong with the question is said before the weights are read.
  limits, chat = folders.describe(_MODEL.value)
  ready = prepare(chat, request, max_positions=limits.max_position_embeddings)
  mesh = compute.make_mesh(config)
  with jax.set_mesh(mesh):
    model = folders.load(_MODEL.value, config.dtype, mesh)
    functions = models.bind(model.config, dtype=config.dtype)
    _show(request, answer(functions, model.params, chat, ready))


def _write_traces(config: ComputeConfig) -> None:
  """Answers the questions of --data."""
  if _PROMPT.value is not None or _IMAGE.value:
    raise ValueError(
      "prompt and image are one question, and data many: give one"
    )
  sampling = Sampling(
    _TEMPERATURE.value, _TOP_K.value, _TOP_P.value, _MIN_P.value
  )
  mesh = compute.make_mesh(config)
  sharding.check_rows(mesh, _BATCH.value)
  limits, chat = folders.describe(_MODEL.value)
  out = pathlib.Path(_OUT.value)
  rows = traces.read(
    _DATA.value, out, split=_SPLIT.value, pictures=_PICTURES.value or None
  )
  budget = chat.pictures.budget.replaced(_MIN_PIXELS.value, _MAX_PIXELS.value)
  buckets = shapes.buckets_for(rows, chat, budget)
  encoder = Encoder(chat, budget, buckets, _LENGTH.value)
  longest = buckets[-1].prompt_tokens + _LENGTH.value
  if longest > limits.max_position_embeddings:
    raise ValueError(
      f"prompts of {buckets[-1].prompt_tokens} tokens and answers of"
      f" {_LENGTH.value} make {longest}, expected at most"
      f" {limits.max_position_embeddings}, which the model was made for; lower"
      " max_new_tokens or max_pixels"
    )
  folder = out.with_name(f"{out.stem}-answers")
  kept = f"{folder} keeps the answers of finished batches, the same command"
  with program.on_interrupt(f"{kept} draws the rest"), jax.set_mesh(mesh):
    model = folders.load(_MODEL.value, config.dtype, mesh)
    generate = experience.everywhere(
      model.sampler(_N.value, sampling, _LENGTH.value, dtype=config.dtype), mesh
    )
    key = root_key(_SEED.value)
    answers = traces.draw(
      rows,
      encoder,
      generate,
      model.params,
      key,
      batch=_BATCH.value,
      log=traces.Parts(folder, _drawn_with(config, encoder)),
    )
  right = _KEEP.value == "right"
  kept = traces.write(out, answers, right=right, most=_MOST.value)
  output.write(_JSON, kept)
  if output.in_words(_JSON):
    print(f"{out}: {kept}")
  if beyond := traces.outside(answers, out.parent):
    logging.warning(
      "its pictures lie elsewhere, such as %s: give --data.pictures to jaxvlm"
      " train, a folder that holds them all",
      beyond,
    )


def _drawn_with(config: ComputeConfig, encoder: Encoder) -> dict[str, Any]:
  """Returns what decides the answers to given questions, as JSON."""
  return {
    "model": models.fingerprint(folders.locate(_MODEL.value)),
    "template": encoder.chat.fingerprint,
    "samples": _N.value,
    "sampling": [f.value for f in (_TEMPERATURE, _TOP_K, _TOP_P, _MIN_P)],
    "max_new_tokens": _LENGTH.value,
    "seed": _SEED.value,
    "batch": _BATCH.value,
    "buckets": [list(bucket) for bucket in encoder.buckets],
    "device_layout": sharding.device_layout(),
    **configs.to_json(config),
    "version": __version__,
    "jax": jax.__version__,
  }


def _show(request: Request, words: Iterable[Word]) -> None:
  """Prints the answers, as they are drawn where a person reads them."""
  drawn: list[Word] = []

  def listen() -> Iterator[Word]:
    for word in words:
      drawn.append(word)
      yield word

  spoken = output.in_words(_JSON)
  look = show.paint if _COLOR.value else show.plain
  for piece in show.in_order(listen(), request.n, look):
    if spoken:
      print(piece, end="", flush=True)
  answers = show.answers(drawn, request.n)
  if spoken and _COLOR.value:
    print(show.legend())
  if spoken and request.n > 1:
    print(show.count([answer.text for answer in answers]))
  output.write(_JSON, answers)


def run() -> None:
  program.run(main, "jaxvlm sample", groups=_GROUPS)
