"""Rows a second and core of the host pipeline, beside transformers' processor.

  python -m benchmarks.host_pipeline [processes]

One-megapixel JPEGs with a question each: read, decoded, resized, cut into
patches, laid out in windows, tokenized. Transformers' side is its image
processor on Pillow and its tokenizer, without our layout and padding, which it
leaves to the model. Times are CPU seconds. Both take turns, a round each, and
the best round counts, because other programs share the cores; the slowest is
printed beside it.
"""

import concurrent.futures
import functools
import importlib
import multiprocessing
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxvlm import assets
from jaxvlm.data import chat as chats
from jaxvlm.data import layout
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Encoder, Row, make_batch

_ROWS = 32
_ROUNDS = 5
_SIDE = 1000
_QUESTION = "<image>Find the measure of the angle x to the nearest tenth."
_MODULE = "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl"


def write_pictures(folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes JPEGs that are neither flat nor noise: smooth shades, some edges."""
  out = []
  y, x = np.mgrid[:_SIDE, :_SIDE] / _SIDE
  for number in range(_ROWS):
    rng = np.random.default_rng(number)
    shades = [
      np.sin(a * x + b * y) + (x > c)
      for a, b, c in rng.uniform(0.1, 30, (3, 3)) * (1, 1, 0.03)
    ]
    pixels = (
      np.stack(shades, -1) * 60 + 128 + rng.normal(0, 4, (_SIDE, _SIDE, 3))
    )
    file = folder / f"{number}.jpg"
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    picture.save(file, quality=90)
    out.append(file)
  return out


def encoder() -> Encoder:
  """Returns the encoder of a Qwen2.5-VL with a small tokenizer."""
  vision = layout.VisionLayout()
  chat = chats.load(assets.folder("nano-base"), None)
  chat = chats.Chat(chat.tokenizer, vision)
  budget = PixelBudget(56 * 56, 28 * 28 * 1280)
  return Encoder(chat, budget, (Bucket(1536, 8192),), 16)


def ours(files: Sequence[pathlib.Path]) -> None:
  """Makes batches of one row, as the pipeline does."""
  settings = _encoder()
  rows = [Row(str(file), _QUESTION, "70", (file,)) for file in files]
  for row in rows:
    make_batch([row], rows.__getitem__, settings.buckets[0], settings)


def theirs(files: Sequence[pathlib.Path]) -> None:
  """Calls transformers' image processor and tokenizer."""
  from transformers.image_utils import load_image

  processor = _processor()
  tokenizer = _encoder().chat.tokenizer
  for file in files:
    found = processor(images=[load_image(str(file))], return_tensors="np")
    count = int(np.prod(found["image_grid_thw"][0])) // 4
    content = [
      {"type": "image"},
      {"type": "text", "text": _QUESTION.removeprefix("<image>")},
    ]
    text = tokenizer.apply_chat_template(
      [{"role": "user", "content": content}],
      tokenize=False,
      add_generation_prompt=True,
    )
    pads = chats.IMAGE_PAD * count
    tokenizer(text.replace(chats.IMAGE_PAD, pads), add_special_tokens=False)


@functools.cache
def _encoder() -> Encoder:
  return encoder()


@functools.cache
def _processor():
  kind = importlib.import_module(_MODULE).Qwen2VLImageProcessorPil
  return kind(min_pixels=56 * 56, max_pixels=28 * 28 * 1280)


class Speed(NamedTuple):
  """Rows a second of CPU and core.

  Attributes:
    best: of the fastest round.
    slowest: of the slowest one.
  """

  best: float
  slowest: float

  def __str__(self) -> str:
    return f"{self.best:.1f} | {self.slowest:.1f}"


def speeds(
  works: Mapping[str, Callable[[Sequence[pathlib.Path]], None]],
  files: Sequence[pathlib.Path],
) -> dict[str, Speed]:
  """Returns how fast each work is, by its name."""
  for work in works.values():
    work(files[:1])
  rates = {name: [] for name in works}
  for _ in range(_ROUNDS):
    for name, work in works.items():
      begin = time.process_time()
      work(files)
      rates[name].append(len(files) / (time.process_time() - begin))
  return {name: Speed(max(each), min(each)) for name, each in rates.items()}


def _timed(files: Sequence[pathlib.Path]) -> float:
  begin = time.process_time()
  ours(files)
  return time.process_time() - begin


def in_processes(count: int, files: Sequence[pathlib.Path]) -> Speed:
  """Returns how fast each of several workers is while all work."""
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(count, context) as pool:
    list(pool.map(_timed, [files[:1]] * count))  # imports
    rates = []
    for _ in range(_ROUNDS):
      spent = sum(pool.map(_timed, [files] * count))
      rates.append(count * len(files) / spent)
  return Speed(max(rates), min(rates))


def main() -> None:
  most = int(sys.argv[1]) if len(sys.argv) > 1 else 2
  with tempfile.TemporaryDirectory() as name:
    files = write_pictures(pathlib.Path(name))
    print(f"{_ROWS} rows a round, {_ROUNDS} rounds\n")
    print("| pipeline | rows a second and core | slowest round |")
    print("|---|---|---|")
    found = speeds({"jaxvlm": ours, "transformers": theirs}, files)
    for told, speed in found.items():
      print(f"| {told} | {speed} |", flush=True)
    for count in range(2, most + 1):
      speed = in_processes(count, files)
      print(f"| jaxvlm, {count} processes | {speed} |", flush=True)


if __name__ == "__main__":
  main()
