"""Geometry3K in three layouts: the same problem comes out."""

import json

import pytest

from jaxvlm.data.sources import inter_gps
from jaxvlm.data.sources.geometry3k import INSTRUCTION
from jaxvlm.tasks import geometry3k, score
from tests.data import pack

RECORD = {
  "problem_text": "Find $x$.",
  "annotat_text": "Find x.",
  "choices": ["3", r"2 \sqrt { 3 }", "5", "6"],
  "answer": "B",
  "problem_type_goal": ["Length"],
}


def write_inter_gps(folder, split="train", **change):
  for number in (9, 12, 101):
    place = folder / split / str(number)
    place.mkdir(parents=True)
    (place / "data.json").write_text(json.dumps(RECORD | change))
    (place / "img_diagram.png").write_bytes(b"")
  return folder


def test_the_layout_of_inter_gps(tmp_path):
  task = geometry3k.task(write_inter_gps(tmp_path))
  rows = task.rows("train")
  assert [row.id for row in rows] == ["train/9", "train/12", "train/101"]
  first = rows[0]
  assert first.question == "Find x." + INSTRUCTION
  assert first.reference == r"2 \sqrt { 3 }" and first.group == "Length"
  assert first.images == (tmp_path / "train/9/img_diagram.png",)
  assert first.responses == (r"<think>Find x.</think> \boxed{2 \sqrt { 3 }}",)
  assert score(task, list(first.responses), [first])["accuracy"] == [1]
  with pytest.raises(FileNotFoundError, match="val"):
    task.rows("val")


@pytest.mark.parametrize(
  "change, message",
  [
    ({"answer": "E"}, r"answer is 'E' of choices \['3'"),
    ({"answer": ""}, "answer is ''"),
    ({"choices": None}, "answer is .B. of choices None"),
    ({"annotat_text": 3}, "annotat_text is 3"),
  ],
)
def test_other_records_are_named(tmp_path, change, message):
  with pytest.raises(ValueError, match=f"9/data.json: {message}"):
    inter_gps.rows(write_inter_gps(tmp_path, **change), "train")


def test_parquet_gives_the_same_problem(tmp_path):
  pyarrow = pytest.importorskip("pyarrow")
  from pyarrow import parquet

  record = {
    "images": [{"bytes": b"png", "path": None}],
    "problem": "<image>Find x.",
    "answer": r"2 \sqrt { 3 }",
  }
  table = pyarrow.Table.from_pylist([record])
  parquet.write_table(table, tmp_path / "validation-00000-of-00001.parquet")
  (row,) = geometry3k.task(tmp_path).rows("val")
  (other,) = inter_gps.rows(write_inter_gps(tmp_path / "o"), "train")[:1]
  assert row.images == (b"png",) and row.question[7:] == other.question
  assert (row.reference, row.responses) == (other.reference, other.responses)


@pytest.mark.skipif(
  not (pack.SHARED / "geometry3k").is_dir(),
  reason="shared data absent: ../shared/data/geometry3k",
)
def test_official_records():
  rows = inter_gps.rows(pack.SHARED / "geometry3k", "official_examples")
  assert [row.id.split("/")[1] for row in rows] == [
    str(number) for number in range(11, 21)
  ]
  assert rows[1].reference == "13" and rows[1].images[0].is_file()
  assert "tangent are tangent" in rows[1].question
