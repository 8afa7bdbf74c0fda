"""Answers a question about a picture, several times if asked."""

import collections

import jax
import numpy as np
from absl import app, flags

from jaxvlm.data import rows as rows_lib
from jaxvlm.data.chat import Chat
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Encoder, Row
from jaxvlm.rewards import extract_boxed
from jaxvlm.sampling import Sampling
from jaxvlm.tools import folder as folders

_MODEL = flags.DEFINE_string(
  "model_dir", "nano-base", "Hugging Face folder, or a shipped model's name"
)
_IMAGE = flags.DEFINE_multi_string("image", [], "picture; may be repeated")
_PROMPT = flags.DEFINE_string("prompt", None, "the question", required=True)
_N = flags.DEFINE_integer("n", 1, "number of answers", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "root of the samples")
_LENGTH = flags.DEFINE_integer("max_new_tokens", 256, "longest answer")
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "0 means argmax")
_TOP_K = flags.DEFINE_integer("top_k", 0, "0 keeps all tokens")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "probability mass to keep")
_MIN_P = flags.DEFINE_float("min_p", 0.0, "fraction of the best to keep")
_MAX_PIXELS = flags.DEFINE_integer("max_pixels", 1_003_520, "largest picture")
_COLOR = flags.DEFINE_bool(
  "color_entropy", False, "paint tokens by their entropy, blue to red"
)

# 256-color codes from certain (blue) to undecided (red).
_SHADES = (33, 39, 44, 49, 154, 220, 208, 202, 196)
_SCALE = 2.0  # nats at the red end


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}; see --help")
  model = folders.load(_MODEL.value)
  budget = PixelBudget(56 * 56, _MAX_PIXELS.value)
  row = Row("prompt", _PROMPT.value, "", tuple(_IMAGE.value))
  encoder = Encoder(model.chat, budget, (), _LENGTH.value)
  encoded = rows_lib.encode_prompt(row, encoder)
  bucket = Bucket(len(encoded.tokens), len(encoded.patches))
  prompts = rows_lib.collate_prompts([encoded], bucket, model.chat.pad_id)
  generate = model.sampler(
    _N.value,
    Sampling(_TEMPERATURE.value, _TOP_K.value, _TOP_P.value, _MIN_P.value),
    _LENGTH.value,
  )
  samples = jax.device_get(
    generate(
      model.params, prompts, jax.random.key(_SEED.value), np.zeros(1, np.int32)
    )
  )
  answers: collections.Counter[str] = collections.Counter()
  for g in range(_N.value):
    kept = samples.mask[0, g]
    tokens = samples.tokens[0, g][kept].tolist()
    text = model.chat.decode(tokens)
    answers[extract_boxed(text) or "(no boxed answer)"] += 1
    if _COLOR.value:
      text = _paint(model.chat, tokens, samples.entropies[0, g])
    print(text)
  if _N.value > 1:
    print(f"\n{len(answers)} distinct answers in {_N.value}:")
    for answer, count in answers.most_common():
      print(f"{count:5d}  {answer}")


def _paint(chat: Chat, tokens: list[int], entropies: np.ndarray) -> str:
  parts = []
  for token, entropy in zip(tokens, entropies, strict=False):
    if token == chat.eos_id:
      break
    shade = min(int(entropy / _SCALE * len(_SHADES)), len(_SHADES) - 1)
    parts.append(f"\033[38;5;{_SHADES[shade]}m{chat.tokenizer.decode([token])}")
  return "".join(parts) + "\033[0m"


def run() -> None:
  app.run(main)
