"""Answers a question about a picture, several times if asked.

Text appears as it is drawn. With several answers the first unfinished one is
shown live, the others behind it in order.
"""

from collections.abc import Iterable, Iterator

import jax
from absl import flags

from jaxvlm import config as configs
from jaxvlm import models, program
from jaxvlm.rollout.answer import Request, Word, answer, prepare
from jaxvlm.sampling import Sampling
from jaxvlm.tools import compute, show
from jaxvlm.tools import folder as folders
from jaxvlm.tools.compute import ComputeConfig

_MODEL = configs.define_path(
  "model_dir", "nano-base", "Hugging Face folder, or a shipped model's name"
)
_IMAGE = configs.define_paths("image", "picture; may be repeated")
_PROMPT = flags.DEFINE_string(
  "prompt", None, "the question; required", required=True
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


configs.define_flags(ComputeConfig())


def main() -> None:
  config = configs.from_flags(ComputeConfig())
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


def _show(request: Request, words: Iterable[Word]) -> None:
  texts = [""] * request.n

  def listen(words: Iterable[Word]) -> Iterator[Word]:
    for word in words:
      texts[word.completion] += word.text
      yield word

  look = show.paint if _COLOR.value else show.plain
  for piece in show.in_order(listen(words), request.n, look):
    print(piece, end="", flush=True)
  if _COLOR.value:
    print(show.legend())
  if request.n > 1:
    print(show.count(texts))


def run() -> None:
  program.run(main, "jaxvlm sample")
