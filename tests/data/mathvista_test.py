"""MathVista's rows: for evaluation, never for training."""

import json

import pytest

from jaxvlm.data import own
from jaxvlm.data.sources import mathvista as source
from jaxvlm.tasks import mathvista, score
from tests.data import pack

RECORD = {
  "pid": "7",
  "query": "Hint: …\nQuestion: Find x\nChoices:\n(A) 5\n(B) 10",
  "question": "Find x",
  "image": "images/7.jpg",
  "choices": ["5", "10"],
  "answer": "10",
  "precision": None,
  "question_type": "multi_choice",
  "answer_type": "text",
  "metadata": {"task": "geometry problem solving"},
}


def write(folder, *records):
  lines = "".join(json.dumps(record) + "\n" for record in records)
  (folder / "testmini.jsonl").write_text(lines)
  return folder


def test_a_task_of_one_split(tmp_path):
  task = mathvista.task(write(tmp_path, RECORD, RECORD | {"pid": "8"}))
  first, second = rows = task.rows("testmini")
  assert (first.id, second.id) == ("7", "8")
  assert first.question == RECORD["query"]
  assert first.group == "geometry problem solving"
  assert first.images == (tmp_path / "images/7.jpg",)
  found = score(task, ["(B)", "who knows"], rows)
  assert found["accuracy"].tolist() == [1, 0] == found["parsed"].tolist()
  for split in ("train", "test"):
    with pytest.raises(ValueError, match="forbid training on it"):
      task.rows(split)


@pytest.mark.parametrize(
  "form", [own.answered, own.pairs, own.prompts, own.problems]
)
def test_a_training_run_on_it_is_refused(tmp_path, form):
  with pytest.raises(ValueError, match="testmini.jsonl:1: this is MathVista"):
    own.read(write(tmp_path, RECORD), form)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"question_type": "open"}, "question_type is 'open', expected multi_ch"),
    ({"answer": "7"}, "answer '7' is none of the choices"),
    ({"choices": [1]}, r"choices are \[1\], expected texts"),
    ({"image": "../7.jpg"}, "leaves the data folder"),
    (
      {"question_type": "free_form", "answer_type": "float"},
      "precision is missing",
    ),
  ],
)
def test_other_records_are_named(tmp_path, change, message):
  folder = write(tmp_path, RECORD, RECORD | change)
  with pytest.raises(ValueError, match=rf"testmini.jsonl:2: .*{message}"):
    source.rows(folder)


@pytest.mark.skipif(
  not (pack.SHARED / "mathvista").is_dir(),
  reason="shared data absent: ../shared/data/mathvista",
)
def test_the_packs_sample():
  rows = source.rows(pack.SHARED / "mathvista")
  assert len(rows) == 52
  assert sum(row.images[0].is_file() for row in rows) == 24
