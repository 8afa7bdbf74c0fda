"""Answers a question about a picture, several times if asked.

Text appears as it is drawn. With several answers the first unfinished one is
shown live, the others behind it in order.
"""

import sys
from collections.abc import Iterable, Iterator

from absl import app, flags

from jaxvlm.models.qwen2_5_vl import bind, load_pretrained
from jaxvlm.rollout.answer import Request, Word, answer, prepare
from jaxvlm.sampling import Sampling
from jaxvlm.tools import folder as folders
from jaxvlm.tools import show

_MODEL = flags.DEFINE_string(
  "model_dir", "nano-base", "Hugging Face folder, or a shipped model's name"
)
_IMAGE = flags.DEFINE_multi_string("image", [], "picture; may be repeated")
_PROMPT = flags.DEFINE_string("prompt", None, "the question", required=True)
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
  "min_pixels", None, "smallest picture, pixels; empty: as the folder says"
)
_MAX_PIXELS = flags.DEFINE_integer(
  "max_pixels", None, "largest picture, pixels; empty: as the folder says"
)
_COLOR = flags.DEFINE_bool(
  "color_entropy", False, "paint tokens by their entropy, blue to red"
)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}; see --help")
  try:
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
    config, chat = folders.describe(_MODEL.value)
    ready = prepare(chat, request, max_positions=config.max_position_embeddings)
    _, params = load_pretrained(folders.locate(_MODEL.value))
  except (ValueError, FileNotFoundError) as e:
    sys.exit(f"jaxvlm sample: {e}")
  texts = [""] * request.n

  def listen(words: Iterable[Word]) -> Iterator[Word]:
    for word in words:
      texts[word.completion] += word.text
      yield word

  words = listen(answer(bind(config), params, chat, ready))
  look = show.paint if _COLOR.value else show.plain
  for piece in show.in_order(words, request.n, look):
    print(piece, end="", flush=True)
  if _COLOR.value:
    print(show.legend())
  if request.n > 1:
    print(show.count(texts))


def run() -> None:
  app.run(main)
