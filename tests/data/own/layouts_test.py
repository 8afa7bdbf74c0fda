"""One question in every file layout: the same rows come out."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from jaxvlm.data import own
from jaxvlm.data.own import layouts
from jaxvlm.data.sources.geometry3k import INSTRUCTION
from jaxvlm.data.turns import Turn

SYSTEM = Turn("system", "Be brief.")


def png(seed: int = 0) -> bytes:
  pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)
  stream = io.BytesIO()
  Image.fromarray(pixels).save(stream, "PNG")
  return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
  for number in range(2):
    (tmp_path / f"{number}.png").write_bytes(png(number))
  return tmp_path


def write(folder, *records, name="rows.jsonl"):
  file = folder / name
  file.write_text("".join(json.dumps(record) + "\n" for record in records))
  return file


def said(role, text, names=("role", "content")):
  return dict(zip(names, (role, text), strict=True))


LLAVA = ("from", "value")
ADDRESS = "data:image/png;base64," + base64.b64encode(png()).decode()
# Layout -> records that ask what is larger, with a system prompt where the
# layout has one, and answer 0, not 1.
SAME = {
  "rows": [
    {
      "question": "<image>What?<image>",
      "images": ["0.png", "1.png"],
      "response": "0",
      "rejected": "1",
      "answer": 0,
      "system": "Be brief.",
    },
  ],
  "messages": [
    {
      "messages": [
        said("system", "Be brief."),
        said("user", "<image>What?<image>"),
        said("assistant", "0"),
      ],
      "images": ["0.png", {"path": "1.png", "bytes": None}],
      "rejected_response": "1",
      "solution": 0.0,
    },
    {
      "messages": [
        said(
          "user",
          [
            {"type": "image_url", "image_url": {"url": "0.png"}},
            {"type": "text", "text": "What?"},
            {"type": "image", "image": "1.png"},
          ],
        ),
        said("assistant", [{"type": "text", "text": "0"}]),
      ],
      "system": "Be brief.",
      "rejected_response": "1",
      "answer": ["0"],
    },
  ],
  "conversations": [
    {
      "conversations": [
        said("human", "<image>What?<image>", LLAVA),
      ],
      "chosen": said("gpt", "0", LLAVA),
      "rejected": said("gpt", "1", LLAVA),
      "image": ["0.png", "1.png"],
      "system": "Be brief.",
      "answer": "0",
    },
  ],
  "preference": [
    {
      "prompt": "<image>What?<image>",
      "chosen": "0",
      "rejected": "1",
      "images": ["0.png", "1.png"],
      "system": "Be brief.",
      "answer": "0",
    },
    {
      "prompt": [
        said("system", "Be brief."),
        said("user", "<image>What?<image>"),
      ],
      "chosen": [said("assistant", "0")],
      "rejected": [said("assistant", "1")],
      "images": ["0.png", "1.png"],
      "answer": "0",
    },
    {
      name: [
        said("system", "Be brief."),
        said("user", "<image>What?<image>"),
        said("assistant", text),
      ]
      for name, text in (("chosen", "0"), ("rejected", "1"))
    }
    | {"images": ["0.png", "1.png"], "answer": "0"},
  ],
}


@pytest.mark.parametrize(
  "name, record", [(name, r) for name, rs in SAME.items() for r in rs]
)
def test_one_question_in_every_layout(folder, name, record):
  file = write(folder, record)
  pictures = (folder / "0.png", folder / "1.png")
  table = own.read(file, own.pairs)
  assert table.layout == name and table.found == 1 and not table.dropped
  assert table.carrying == {
    key: 1 for key in ("answer", "response", "rejected", "pictures", "system")
  }
  (pair,) = table.rows
  assert pair.id == "rows.jsonl:1" and pair.before == (SYSTEM,)
  assert pair.question == "<image>What?<image>" and pair.images == pictures
  assert pair.responses == ("0", "1") and pair.reference == "0"
  (taught,) = own.read(file, own.answered).rows
  assert taught.responses == ("0",) and taught.images == pictures
  for form in (own.prompts, own.problems):
    (asked,) = own.read(file, form, layout=name).rows
    assert asked.responses == () and asked.before == (SYSTEM,)
    assert asked.question == pair.question and asked.reference == "0"


def test_prompt_and_completion(folder):
  file = write(
    folder,
    {"prompt": "What?", "completion": "0"},
    {"prompt": [said("user", "What?")], "completion": [said("assistant", "0")]},
  )
  table = own.read(file, own.answered)
  assert table.layout == "prompt_completion"
  for row in table.rows:
    assert (row.question, row.responses, row.before) == ("What?", ("0",), ())
    assert row.reference is None and row.reference_text == own.NO_REFERENCE
  with pytest.raises(ValueError, match="there is no rejected answer"):
    own.read(file, own.pairs)
  with pytest.raises(ValueError, match="there is no answer"):
    own.read(file, own.problems)


def test_pictures_inside_the_messages(folder):
  part = {"type": "image_url", "image_url": {"url": ADDRESS}}
  content = [{"type": "text", "text": "See "}, part]
  file = write(folder, {"prompt": [said("user", content)]})
  (row,) = own.read(file, own.prompts).rows
  assert row.question == "See <image>" and row.images == (png(),)
  (row,) = own.read(file, own.prompts, keep=folder / "kept").rows
  (kept,) = row.images
  assert kept.parent == folder / "kept" and kept.read_bytes() == png()


def test_verl_and_geometry3k(folder):
  encoded = {"path": "0.png"}
  verl = {
    "data_source": "hiyouga/geometry3k",
    "prompt": [said("user", "<image>Find x.")],
    "images": [encoded],
    "reward_model": {"style": "rule", "ground_truth": "3"},
    "extra_info": {"split": "train", "index": 7},
  }
  table = own.read(write(folder, verl), own.problems)
  (row,) = table.rows
  assert table.layout == "verl" and row.id == "train/7"
  assert row.group == "hiyouga/geometry3k" and row.reference == "3"
  hiyouga = {"images": [encoded], "problem": "<image>Find x.", "answer": "3"}
  table = own.read(write(folder, hiyouga), own.problems)
  (row,) = table.rows
  assert table.layout == "geometry3k" and row.reference == "3"
  assert row.question == "<image>Find x." + INSTRUCTION


def test_columns_may_have_other_names(folder):
  file = write(folder, {"query": "What?", "label": 3})
  names = {"question": "query", "answer": "label"}
  (row,) = own.read(file, own.problems, columns=names).rows
  assert row.question == "What?" and row.reference == "3"
  with pytest.raises(ValueError, match="no column 'labels'.*one of query, lab"):
    own.read(file, own.problems, columns={"answer": "labels"})


def test_a_field_that_is_null_tells_the_layout_too(folder):
  whole = {"prompt": "a", "chosen": "b", "rejected": "c"}
  file = write(folder, whole | {"rejected": None}, whole)
  table = own.read(file, own.pairs)
  assert table.layout == "preference" and len(table.rows) == 1
  assert "rejected is None" in table.dropped[0][1]


def test_unknown_fields_and_layouts_are_refused(folder):
  file = write(folder, {"text": "x"}, {"question": "x"})
  with pytest.raises(ValueError, match="rows.jsonl:1: the fields text are"):
    own.read(file, own.prompts)
  with pytest.raises(ValueError, match="layout 'llava' is not known"):
    own.read(file, own.prompts, layout="llava")
  for layout in layouts.LAYOUTS:
    assert layouts.named(layout.name) is layout
