"""Geometry3K from a folder: real rows, broken records, paths that leave it."""

import json
import pathlib
import random

import numpy as np
import pytest
from PIL import Image

from jaxvlm.data import chat, images, layout, rows
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Encoder
from jaxvlm.data.sources import geometry3k
from tests.data import pack

# Of the pack, or of its stand-in.
COUNTS = (
  {"train": 120, "val": 30}
  if (pack.SHARED / "geometry3k").is_dir()
  else {"train": 40, "val": 10}
)
GOOD = {
  "id": 7,
  "image": "images/7.png",
  "problem_text": "Find x.",
  "answer": "70",
  "answer_kind": "integer",
}


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
  path = tmp_path / "data"
  (path / "images").mkdir(parents=True)
  Image.fromarray(np.zeros((60, 60, 3), np.uint8)).save(path / "images/7.png")
  return path


def write(folder: pathlib.Path, *lines: dict | str | bytes) -> None:
  with (folder / "train.jsonl").open("wb") as file:
    for line in lines:
      if isinstance(line, dict):
        line = json.dumps(line, ensure_ascii=False)
      file.write(line if isinstance(line, bytes) else line.encode())
      file.write(b"\n")


def test_a_record_becomes_a_row(folder):
  write(folder, GOOD, {**GOOD, "id": 8, "response": "So \\boxed{70}."})
  first, second = geometry3k.rows(str(folder), "train")
  assert (first.id, first.reference, first.group) == (
    "train/7",
    "70",
    "integer",
  )
  assert first.question == "Find x." + geometry3k.INSTRUCTION
  assert first.images == ((folder / "images/7.png").resolve(),)
  assert first.responses == ("<think>Find x.</think> \\boxed{70}",)
  assert second.responses == ("So \\boxed{70}.",)
  write(folder, {**GOOD, "text_full": "As shown, 2x = 140.", "answer": 70})
  (third,) = geometry3k.rows(folder, "train")
  assert third.reference == "70"
  assert third.responses == ("<think>As shown, 2x = 140.</think> \\boxed{70}",)


def test_a_list_of_one_and_a_number_are_read_as_the_answer_they_mean(folder):
  for answer in (["70"], 70, 70.0, [70]):
    write(folder, {**GOOD, "answer": answer})
    (row,) = geometry3k.rows(folder, "train")
    assert row.reference == "70"
    assert row.responses == ("<think>Find x.</think> \\boxed{70}",)


@pytest.mark.parametrize(
  "field, value",
  [
    ("answer", ["70", "71"]),
    ("answer", []),
    ("answer", {"value": 70}),
    ("answer", True),
    ("answer", float("nan")),
    ("text_full", ["Find x."]),
    ("response", ["So"]),
  ],
)
def test_a_field_that_is_no_text_is_refused_with_its_line(folder, field, value):
  write(folder, GOOD, "", {**GOOD, field: value})
  with pytest.raises(ValueError, match=r"train\.jsonl, line 3: TypeError"):
    geometry3k.rows(folder, "train")


def test_blank_lines_and_line_ends_of_other_systems_are_no_errors(folder):
  one, two = json.dumps(GOOD), json.dumps({**GOOD, "id": 8})
  texts = (
    f"{one}\n\n{two}\n\n \t\n",
    f"\ufeff{one}\r\n{two}\r\n",
    f"\ufeff\r\n{one}\r{two}",
    f"\n{one}\n{two}",
  )
  for text in texts:
    (folder / "train.jsonl").write_bytes(text.encode())
    ids = [row.id for row in geometry3k.rows(folder, "train")]
    assert ids == ["train/7", "train/8"], text


def test_a_missing_split_is_named(folder):
  with pytest.raises(FileNotFoundError, match=r"val\.jsonl does not exist"):
    geometry3k.rows(folder, "val")
  with pytest.raises(FileNotFoundError, match="--data_dir"):
    geometry3k.rows(folder / "nowhere", "train")


def without(name: str) -> dict:
  return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
  "line",
  [
    json.dumps(GOOD)[:-5],
    "not JSON",
    "[1, 2]",
    "null",
    '"text"',
    "[" * 100_000,
    b"\xff\xfe",
    json.dumps(GOOD).encode().replace(b"Find", b"F\xe9nd"),
    without("id"),
    without("image"),
    without("problem_text"),
    without("answer"),
    GOOD | {"problem_text": None},
    GOOD | {"problem_text": ["Find x."]},
    GOOD | {"image": None},
    GOOD | {"image": ["images/7.png"]},
    GOOD | {"image": {"bytes": "…"}},
    GOOD | {"response": ["a"]},
    GOOD | {"response": 5},
  ],
  ids=repr,
)
def test_a_broken_line_is_named_with_file_and_line(folder, line):
  write(folder, GOOD, GOOD, line, GOOD)
  with pytest.raises(ValueError, match=r"train\.jsonl, line 3: .*expected a J"):
    geometry3k.rows(folder, "train")


@pytest.mark.parametrize("text", ["a\u2028b", "a\x85b", "a\u2029b"])
def test_what_looks_like_a_line_end_does_not_end_a_record(folder, text):
  write(folder, GOOD | {"problem_text": text}, GOOD)  # JSON allows it as it is
  first, _ = geometry3k.rows(folder, "train")
  assert first.question == text + geometry3k.INSTRUCTION


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_an_empty_answer_is_left_to_the_survey(folder, answer):
  write(folder, GOOD | {"answer": answer})
  (row,) = geometry3k.rows(folder, "train")
  assert not row.reference.strip()


def test_paths_that_leave_the_folder_are_refused(folder, tmp_path):
  outside = tmp_path / "secret.png"
  Image.fromarray(np.zeros((60, 60, 3), np.uint8)).save(outside)
  evil = tmp_path / "data_evil"  # shares a prefix with the folder's name
  evil.mkdir()
  (evil / "1.png").write_bytes(outside.read_bytes())
  (folder / "images/link.png").symlink_to(outside)
  (folder / "images/up").symlink_to(tmp_path, target_is_directory=True)
  (folder / "images/relative.png").symlink_to("../../secret.png")
  (folder / "images/loop").symlink_to("loop")
  names = [
    "../secret.png",
    "images/../../secret.png",
    "images/./.././../secret.png",
    str(outside),
    "/etc/passwd",
    "//etc/passwd",
    "../data_evil/1.png",
    str(evil / "1.png"),
    "images/link.png",
    "images/relative.png",
    "images/up/secret.png",
    "images/up/data_evil/1.png",
    "images/7.png\0",
    "\0",
    "images/7.png\0/../../../secret.png",
    "a" * 10_000,
    "..",
    "../",
  ]
  for name in names:
    write(folder, GOOD | {"image": name})
    try:
      (row,) = geometry3k.rows(folder, "train")
    except ValueError as e:
      assert "leaves the data folder" in str(e), name
    else:  # a name no file can have stays inside, and is dropped later
      assert name == "a" * 10_000
  # What a name of another system means there, it does not mean here.
  write(folder, GOOD | {"image": "\\\\host\\share\\1.png"})
  (row,) = geometry3k.rows(folder, "train")
  with pytest.raises(FileNotFoundError):
    images.size_of(row.images[0])
  # A loop of links is refused or, in newer Pythons, left to be unreadable.
  write(folder, GOOD | {"image": "images/loop"})
  with pytest.raises(ValueError, match="images/loop"):
    images.size_of(geometry3k.rows(folder, "train")[0].images[0])


def test_links_that_stay_inside_and_linked_folders_are_fine(folder, tmp_path):
  (folder / "images/8.png").symlink_to("7.png")
  alias = tmp_path / "alias"
  alias.symlink_to(folder, target_is_directory=True)
  write(
    folder, GOOD | {"image": "images/8.png"}, GOOD | {"image": "./images/7.png"}
  )
  for row in geometry3k.rows(alias, "train"):
    assert images.size_of(row.images[0]) == (60, 60)


@pytest.mark.parametrize("seed", range(60))
def test_damaged_files_give_rows_or_a_value_error(folder, seed):
  draw = random.Random(seed)
  write(folder, GOOD, GOOD | {"text_full": "2x = 140"}, GOOD)
  file = folder / "train.jsonl"
  data = bytearray(file.read_bytes())
  for _ in range(1 + seed % 4):
    at = draw.randrange(len(data))
    match draw.randrange(3):
      case 0:
        data[at] = draw.randrange(256)
      case 1:
        del data[at : at + draw.randrange(40)]
      case 2:
        data[at:at] = draw.randbytes(3)
  file.write_bytes(data)
  try:
    found = geometry3k.rows(folder, "train")
  except ValueError as e:
    assert str(file) in str(e) or str(folder) in str(e)
  else:
    assert all(isinstance(row.question, str) for row in found)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  return pack.geometry3k(tmp_path_factory.mktemp("geometry3k"))


def test_a_whole_folder_loads(whole):
  for split, count in COUNTS.items():
    found = geometry3k.rows(whole, split)
    assert len(found) == len({row.id for row in found}) == count
    records = (whole / f"{split}.jsonl").read_text("utf-8").split("\n")
    for row, record in zip(
      found, map(json.loads, records[:count]), strict=True
    ):
      assert images.size_of(row.images[0]) == (
        record["width"],
        record["height"],
      )
      assert row.reference == record["answer"]
      assert record["text_full"] in row.responses[0]


def test_a_whole_folder_survives_a_survey(tmp_path, whole):
  folder = pack.official_tokenizer(tmp_path)
  vision = layout.VisionLayout()
  encoder = Encoder(
    chat=chat.load(folder, vision),
    budget=PixelBudget(56 * 56, 56 * 56 * 16),
    buckets=(Bucket(112, 384), Bucket(160, 384)),
    max_new_tokens=256,
  )
  for split, count in COUNTS.items():
    found = rows.survey(geometry3k.rows(whole, split), encoder)
    assert found.dropped == () and len(found.kept) == count
    assert set(found.buckets) == {0, 1}
  chosen = [found.row(i) for i in range(3)]
  made = rows.make_batch(chosen, None, encoder.buckets[-1], encoder)
  assert made.replaced == ()
  image = made.batch.prompts.tokens == encoder.chat.image_token_id
  for i, row in enumerate(chosen):
    (grid,) = encoder.grids(row)
    assert image[i].sum() == layout.image_tokens(vision, grid) <= 64
