"""Mutated files and pictures: no crash, no hang, every row accounted for."""

import copy
import io
import json
import random
import resource
import struct
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxvlm.data import chat as chat_lib
from jaxvlm.data import layout, own, rows, tokenizer
from jaxvlm.data.images import PixelBudget
from tests.data import pack

VISION = layout.VisionLayout(window=56)
FORMS = (own.answered, own.pairs, own.prompts, own.problems)
# What stands in fields that it should not stand in.
JUNK = (
  None,
  True,
  -1,
  0.5,
  10**400,
  "",
  " ",
  "x" * 100_000,
  "\ud800",
  "\0",
  "<image>" * 50,
  "<|im_end|><|image_pad|>",
  "../../etc/passwd",
  "/dev/zero",
  "data:image/png;base64,AAAA",
  "data:,",
  [],
  {},
  [[]],
  [None],
  [{"role": "user"}],
  {"bytes": None, "path": None},
  {"bytes": "x", "path": 3},
  {"a": {"b": {"c": [None, {}]}}},
)
SAID = [
  {"role": "user", "content": "<image>x?"},
  {"role": "assistant", "content": "70"},
]
RECORDS = (
  {
    "question": "x?",
    "images": ["0.png"],
    "response": "70",
    "rejected": "7",
    "answer": "70",
    "id": "a",
    "system": "s",
  },
  {"messages": SAID, "images": ["1.jpg"], "rejected_response": "7"},
  {
    "messages": [
      {
        "role": "user",
        "content": [
          {"type": "text", "text": "x?"},
          {"type": "image_url", "image_url": {"url": "0.png"}},
        ],
      },
      SAID[1],
    ],
    "answer": "70",
  },
  {
    "conversations": [
      {"from": "human", "value": "<image>x?"},
      {"from": "gpt", "value": "70"},
    ],
    "image": "2.gif",
    "id": 7,
  },
  {"prompt": "x?", "completion": "70"},
  {
    "prompt": SAID[:1],
    "chosen": SAID[1:],
    "rejected": "7",
    "images": ["0.png"],
  },
  {
    "prompt": SAID[:1],
    "images": [{"path": "3.webp"}],
    "reward_model": {"ground_truth": "70"},
    "extra_info": {"index": 1, "split": "train"},
  },
  {"images": ["0.png"], "problem": "<image>x?", "answer": "70"},
)
MIXED = RECORDS[2]  # a content of parts beside one of text


def encoded(kind: str, seed: int, **options) -> bytes:
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (40, 30, 3), np.uint8)
  stream = io.BytesIO()
  Image.fromarray(pixels).save(stream, kind, **options)
  return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
  """Returns a PNG of a few bytes that claims to be large."""
  head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  chunks = [
    (b"IHDR", head),
    (b"IDAT", zlib.compress(b"\0" * 99)),
    (b"IEND", b""),
  ]
  return b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(body))
    + kind
    + body
    + struct.pack(">I", zlib.crc32(kind + body))
    for kind, body in chunks
  )


PICTURES = {
  "0.png": encoded("PNG", 0),
  "1.jpg": encoded("JPEG", 1),
  "2.gif": encoded(
    "GIF", 2, save_all=True, append_images=[Image.new("RGB", (30, 40))]
  ),
  "3.webp": encoded("WEBP", 3),
}
OTHERS = (
  encoded("TIFF", 4),
  encoded("BMP", 5),
  b"",
  b"GIF89a",
  b"%!PS-Adobe-3.0 EPSF-3.0\n",
  bomb(20_000, 20_000),
  bomb(2**31 - 1, 1),
  bomb(5000, 2),
  bomb(0, 9),
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tokenizer")
  tokenizer.build(pack.CORPUS, folder, vocab_size=300)
  chat = chat_lib.load(folder, VISION)
  budget = PixelBudget(28 * 28, 28 * 28 * 4)
  return rows.Encoder(chat, budget, (rows.Bucket(200, 64),), 200)


def bytes_changed(rng: random.Random, content: bytes) -> bytes:
  """Cuts, flips, doubles or inserts; a few bytes or many."""
  out = bytearray(content)
  for _ in range(rng.choice((1, 1, 3, 20))):
    at = rng.randrange(len(out) + 1)
    end = min(len(out), at + rng.choice((1, 4, 64)))
    way = rng.randrange(5)
    if way == 0:
      del out[at:]
    elif way == 1:
      del out[at:end]
    elif way == 2:
      out[at:at] = rng.randbytes(rng.choice((1, 4)))
    elif way == 3 and end > at:
      out[at] ^= 1 << rng.randrange(8)
    else:
      out[at:at] = out[at:end]
  return bytes(out)


def value_changed(rng: random.Random, value):
  """Puts junk somewhere into a record, or loses a part of it."""
  value = copy.deepcopy(value)
  inside = value
  while True:
    keys = list(inside) if isinstance(inside, dict) else [*range(len(inside))]
    if not keys:
      return value
    key = rng.choice(keys)
    if isinstance(inside[key], dict | list) and rng.random() < 0.6:
      inside = inside[key]
      continue
    if rng.random() < 0.3:
      del inside[key]
    else:
      inside[key] = rng.choice(JUNK)
    return value


def parquet_of(records) -> bytes:
  pyarrow = pytest.importorskip("pyarrow")
  from pyarrow import parquet

  stream = io.BytesIO()
  parquet.write_table(pyarrow.Table.from_pylist(records), stream)
  return stream.getvalue()


def mutated(rng: random.Random, folder) -> None:
  """Writes a data file and pictures, one of them changed."""
  way = rng.randrange(5)
  # A column of parquet holds one type; one record mixes two.
  record = rng.choice([r for r in RECORDS if way != 2 or r != MIXED])
  records = [record] * rng.choice((1, 3))
  pictures = dict(PICTURES)
  name = "rows.jsonl"
  if way == 0:
    records[0] = value_changed(rng, record)
  content = "".join(json.dumps(one) + "\n" for one in records).encode()
  if way == 1:
    content = bytes_changed(rng, content)
  elif way == 2:
    name = "rows.parquet"
    content = parquet_of(records)
    if rng.random() < 0.9:
      content = bytes_changed(rng, content)
  elif way == 3:
    name, content = "rows.json", json.dumps(records).encode()
    if rng.random() < 0.5:
      content = bytes_changed(rng, content)
  if way == 4 or rng.random() < 0.1:
    which = rng.choice(sorted(pictures))
    pictures[which] = rng.choice(
      (bytes_changed(rng, pictures[which]), rng.choice(OTHERS))
    )
  for old in folder.iterdir():
    old.unlink()
  for which, picture in pictures.items():
    (folder / which).write_bytes(picture)
  (folder / name).write_bytes(content)


def use(folder, form, encoder) -> str:
  """Reads, surveys and loads; returns how it ended."""
  try:
    table = own.read(folder, form)
  except ValueError as e:
    assert str(e)
    return "refused"
  records = {row.id.split("#")[0] for row in table.rows}
  assert len(records) + len(table.dropped) == table.found
  assert all(reason for _, reason in table.dropped)
  try:
    found = rows.survey(table.rows, encoder)
  except ValueError as e:
    assert "rows is usable" in str(e) or "differ in their number" in str(e)
    return "nothing to use"
  assert len(found.kept) + len(found.dropped) == len(table.rows)
  ended = "dropped" if found.dropped or table.dropped else "used"
  for number in range(len(found.kept)):
    try:
      rows.encode_prompt(found.row(number), encoder)
    except (ValueError, FileNotFoundError) as e:
      assert str(e)  # its header is whole, its pixels are not: a spare is taken
      ended = "replaced"
  return ended


def run(count: int, seed: int, folder, encoder) -> dict[str, int]:
  ends: dict[str, int] = {}
  folder.mkdir()
  for number in range(count):
    rng = random.Random(seed * 10**6 + number)
    mutated(rng, folder)
    begin = time.process_time()
    end = use(folder, rng.choice(FORMS), encoder)
    assert time.process_time() - begin < 2, number
    ends[end] = ends.get(end, 0) + 1
  return ends


def test_two_hundred_mutations(tmp_path, encoder):
  ends = run(200, 0, tmp_path / "data", encoder)
  assert ends.keys() >= {"refused", "dropped", "used", "nothing to use"}


@pytest.mark.slow
def test_five_thousand_mutations(tmp_path, encoder):
  ends = run(5000, 1, tmp_path / "data", encoder)
  assert sum(ends.values()) == 5000 and "replaced" in ends
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  peak *= 1 if sys.platform == "darwin" else 1024
  assert peak < 2**30
