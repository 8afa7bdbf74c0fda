"""The data pack beside the checkout or, in a clone without it, stand-ins.

A stand-in has the layout of the original and contents of our own: what reads a
folder is tested everywhere, and only what asserts original numbers is skipped.
"""

import gzip
import json
import math
import pathlib
from collections.abc import Iterator
from fractions import Fraction

from PIL import Image

from jaxvlm.data import diagrams, tokenizer
from jaxvlm.data.sources.geometry3k import INSTRUCTION

SHARED = pathlib.Path(__file__).parents[3] / "shared/data"
CORPUS = [
  "Find the angle x in degrees.",
  "<think>The angles of a triangle add up to 180.</think> \\boxed{70}",
  "180 - 35 - 75 = 70, so x = 70.",
] * 4
# So that a question of the world has about as many tokens as an original.
PHRASES = (
  "system\nYou are a helpful assistant.\nuser\nassistant\n",
  INSTRUCTION,
)


def official_tokenizer(
  folder: pathlib.Path, pack: pathlib.Path | None = SHARED, **config
) -> pathlib.Path:
  """Writes a tokenizer laid out like the official ones; returns its folder.

  Vocabulary and template are the pack's, or small ones.

  Args:
    folder: an empty folder.
    pack: where the originals are looked for; None for the stand-in.
    **config: other fields of tokenizer_config.json.
  """
  if pack and (source := pack / "qwen_tokenizer").is_dir():
    for name in ("vocab.json", "merges.txt"):
      data = (source / f"{name}.gz").read_bytes()
      (folder / name).write_bytes(gzip.decompress(data))
    special = json.loads((source / "special_tokens.json").read_text())
    added = special["added_tokens"]
    template = (pack / "model_configs/chat_template.json").read_bytes()
  else:
    corpus = [*CORPUS, *PHRASES * 40]
    for number in range(100):
      problem = diagrams.generate(diagrams.IN_DOMAIN[number % 3], number)
      corpus += [problem.question, *problem.solutions.values()]
    tokenizer.build(corpus, folder / "made", vocab_size=800)
    for name in ("vocab.json", "merges.txt"):
      (folder / "made" / name).rename(folder / name)
    made = json.loads((folder / "made/tokenizer.json").read_text())
    added = made["added_tokens"]
    template = json.dumps({"chat_template": tokenizer.CHAT_TEMPLATE}).encode()
  fields = {
    "tokenizer_class": "Qwen2Tokenizer",
    "added_tokens_decoder": {
      str(token["id"]): {
        "content": token["content"],
        "special": token["special"],
        "normalized": False,
        "lstrip": False,
        "rstrip": False,
        "single_word": False,
      }
      for token in added
    },
    "add_prefix_space": False,
    "bos_token": None,
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "unk_token": None,
    "errors": "replace",
    "clean_up_tokenization_spaces": False,
    # Official folders keep the text-only template here.
    "chat_template": "text only",
    **config,
  }
  (folder / "tokenizer_config.json").write_text(json.dumps(fields))
  (folder / "chat_template.json").write_bytes(template)
  return folder


def geometry3k(
  folder: pathlib.Path,
  pack: pathlib.Path | None = SHARED,
  train: int = 40,
  val: int = 10,
) -> pathlib.Path:
  """Returns the pack's folder, or writes one with pictures of our world."""
  if pack and (real := pack / "geometry3k").is_dir():
    return real
  (folder / "images").mkdir(parents=True)
  for split, first, count in (("train", 0, train), ("val", train, val)):
    with (folder / f"{split}.jsonl").open("w") as file:
      for number in range(first, first + count):
        family = sorted(diagrams.IN_DOMAIN)[number % len(diagrams.IN_DOMAIN)]
        problem = diagrams.generate(family, number)
        name = f"images/{number}.png"
        # Sides of the originals are no multiples of a patch.
        height, width = (3 * side + 5 for side in problem.image.shape[:2])
        picture = Image.fromarray(problem.image).resize((width, height))
        picture.save(folder / name)
        record = {
          "id": number,
          "image": name,
          "width": width,
          "height": height,
          "problem_text": problem.question,
          "text_full": next(iter(problem.solutions.values())),
          "answer": problem.answer,
          "answer_kind": "integer",
        }
        file.write(json.dumps(record) + "\n")
  return folder


def geometry3k_answers() -> Iterator[dict]:
  """Yields answers in all their forms: Geometry3K's, or some of each kind."""
  folder = SHARED / "geometry3k"
  if folder.is_dir():
    for split in ("train", "val"):
      for line in (folder / f"{split}.jsonl").read_text().splitlines():
        yield json.loads(line)
    return

  def record(kind, answer, written, value, solved):
    return {
      "answer_kind": kind,
      "answer": answer,
      "answer_expr": written,
      "answer_value": float(value),
      "answer_formalgeo": solved,
    }

  for n in range(1, 40):
    yield record("integer", str(n), str(n), n, str(n))
    tenths = f"{n}.{n % 9 + 1}"
    yield record("decimal", tenths, tenths, tenths, tenths)
    part = Fraction(n + 20, 7 if n % 7 != 1 else 8)
    if part.denominator > 1:
      over = f"{part.numerator}/{part.denominator}"
      tex = f"\\frac{{{part.numerator}}}{{{part.denominator}}}"
      yield record("fraction", tex, over, part, over)
    root = (2, 3, 5, 6, 7)[n % 5]
    tex, written = f"{n}\\sqrt{{{root}}}", f"{n}*{{{root}^0.5}}"
    yield record("surd", tex, written, n * math.sqrt(root), f"{n}*sqrt({root})")
