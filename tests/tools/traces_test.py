"""A teacher's traces: right answers become rows to learn from."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from jaxvlm.data import diagrams, own
from jaxvlm.data.rows import Encoder, Row
from jaxvlm.data.turns import Turn
from jaxvlm.eval.drawn import Drawn
from jaxvlm.rewards import final
from jaxvlm.sampling import Sampling
from jaxvlm.tools import folder as folders
from jaxvlm.tools import shapes, traces
from jaxvlm.tools.traces import Answer, Kept
from tests.eval import harness_test


def row(name, **fields):
  return Row(name, "What?", "7", **fields)


def test_right_answers_are_written_once(tmp_path):
  (tmp_path / "images").mkdir()
  Image.new("RGB", (9, 9)).save(tmp_path / "images/a.png")
  before = (
    Turn("system", "Be brief."),
    Turn("user", "Hi"),
    Turn("assistant", "!"),
  )
  first = row("a", images=(tmp_path / "images/a.png",), before=before)
  answers = [
    Answer(first, "\\boxed{8}", False, True),
    Answer(first, "so \\boxed{7}", True, True),
    Answer(first, "so \\boxed{7}", True, True),
    Answer(first, "thus \\boxed{7}", True, False),
    Answer(first, "hence \\boxed{7}", True, True),
    Answer(row("b"), "\\boxed{1}", False, True),
    Answer(row("c"), "\\boxed{7}", True, True),
  ]
  out = tmp_path / "traces.jsonl"
  assert traces.write(out, answers) == Kept(2, 3, 5, 7, 2)
  table = own.read(out, own.answered)
  assert table.layout == "messages" and not table.dropped
  found = table.rows
  assert [r.id for r in found] == ["a", "c"]
  # Earlier answers are learned, too, as in every conversation.
  assert found[0].responses[0][-1] == Turn("assistant", "so \\boxed{7}")
  (asked, _) = own.read(out, own.problems).rows
  assert asked.before == before and asked.images == first.images
  assert asked.reference == "7" and asked.question == "What?"
  assert traces.write(out, answers, most=9) == Kept(2, 3, 5, 7, 3)
  ids = [json.loads(line)["id"] for line in out.read_text().splitlines()]
  assert ids == ["a", "a~1", "c"]
  assert traces.write(out, answers, right=False, most=9).written == 5
  assert traces.outside(answers, tmp_path) == ""
  assert traces.outside(answers, tmp_path / "images") == ""
  elsewhere = traces.outside(answers, tmp_path / "other")
  assert elsewhere == str(tmp_path / "images/a.png")
  with pytest.raises(ValueError, match="none of 1 answers is right"):
    traces.write(out, answers[:1])


def test_what_was_drawn_is_kept_part_by_part(tmp_path):
  prompts = SimpleNamespace(tokens=np.arange(3), mask=np.ones(3, bool))
  problems = dataclasses.replace(
    harness_test.problem_set(), batches=((prompts, np.arange(3)),)
  )
  parts = traces.Parts(tmp_path / "answers", {"seed": 0})
  one = Drawn("seven", 2, True, np.float32(0.5), np.float32(1))
  parts.of(0, problems).add({(0, 0): [one]})
  assert parts.of(0, problems).found == {(0, 0): [one]}
  assert parts.of(1, problems).found == {}
  # Of other settings, or other problems, nothing counts.
  other = dataclasses.replace(problems, digest="another")
  assert parts.of(0, other).found == {}
  parts.of(0, problems).add({(0, 0): [one]})
  assert parts._replace(drawn_with={"seed": 1}).of(0, problems).found == {}


@pytest.mark.slow
def test_the_shipped_teacher_writes_traces(tmp_path):
  records = []
  for number in range(6):
    problem = diagrams.sample(diagrams.VALIDATION, number)
    Image.fromarray(problem.image).save(tmp_path / f"{number}.png")
    records.append(
      {
        "question": problem.question,
        "answer": problem.answer,
        "image": f"{number}.png",
      }
    )
  data = tmp_path / "rows.jsonl"
  data.write_text("".join(json.dumps(record) + "\n" for record in records))
  out = tmp_path / "traces.jsonl"
  rows = traces.read(str(data), out)
  teacher = folders.load("nano-teacher")
  budget = teacher.chat.pictures.budget
  encoder = Encoder(
    teacher.chat, budget, shapes.buckets_for(rows, teacher.chat, budget), 44
  )
  log = traces.Parts(tmp_path / "answers", {"seed": 0})
  answers = traces.draw(
    rows,
    encoder,
    teacher.sampler(4, Sampling(), 44),
    teacher.params,
    jax.random.key(0),
    batch=6,
    log=log,
  )
  assert len(answers) == 24

  def never(*_):
    raise AssertionError("an answer that is kept was drawn again")

  kept = traces.draw(
    rows, encoder, never, None, jax.random.key(0), batch=6, log=log
  )
  assert kept == answers
  kept = traces.write(out, answers, most=4)
  assert kept.rows >= 3  # it solves most of them
  for taught in own.read(out, own.answered).rows:
    (text,) = taught.responses
    assert final.scores(text, taught_answer(records, taught))["reward"] == 1
    assert np.array(Image.open(taught.images[0])).shape[2] == 3


def taught_answer(records, taught):
  return next(
    record["answer"]
    for record in records
    if record["image"] == taught.images[0].name
  )
