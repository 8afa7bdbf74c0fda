"""Kept surveys: the same as a new one, and made anew when anything differs."""

import dataclasses
import json
import os

import numpy as np
import pytest
from PIL import Image

from jaxvlm import bars
from jaxvlm.data import diagrams, images, rows, surveys
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.processor import FAMILY
from jaxvlm.data.rows import Bucket, Encoder, Row
from jaxvlm.data.sources.world import Mixture, WorldRows
from jaxvlm.data.turns import Turn
from tests import tiny


class Words:
  """As much of a chat as a survey needs: a word is its length."""

  layout = tiny.CONFIG.layout
  pictures = FAMILY
  fingerprint = "words"

  def prompt(self, question, grids, before=()):
    return [1] * sum(h * w // 4 for _, h, w in grids) + question.split()

  def reply(self, text):
    words = text.split()
    return words, [True] * len(words)


ENCODER = Encoder(
  Words(), PixelBudget(3136, 12544), (Bucket(12, 16), Bucket(40, 64)), 9
)


@pytest.fixture
def some(tmp_path) -> list[Row]:
  """Returns rows of every kind of picture; the last is dropped."""
  file = tmp_path / "a.png"
  Image.fromarray(np.zeros((56, 84, 3), np.uint8)).save(file)
  array = np.arange(56 * 56 * 3, dtype=np.uint8).reshape(56, 56, 3)
  return [
    Row("file", "Find x.", "1", (file,), ("a b",)),
    Row("bytes", "Find x.", "1", (file.read_bytes(), file), ("c",)),
    Row("array", "Find x.", "1", (array,), ("d",)),
    Row("text", "Find x.", "1", (), ("e",)),
    Row("gone", "Find x.", "1", (tmp_path / "gone.png",), ("f",)),
  ]


def same(a: rows.Survey, b: rows.Survey) -> bool:
  arrays = all(
    np.array_equal(x, y) and x.dtype == y.dtype
    for x, y in ((a.kept, b.kept), (a.buckets, b.buckets))
  )
  return arrays and (a.dropped, a.digest) == (b.dropped, b.digest)


def test_a_kept_survey_is_that_of_a_new_pass(
  some, tmp_path, monkeypatch, caplog
):
  file = tmp_path / "made/of/some.json"
  new = rows.survey(some, ENCODER)
  assert same(surveys.survey(file, some, ENCODER), new)
  before = file.read_bytes()
  assert [p.name for p in file.parent.iterdir()] == ["some.json"]
  caplog.clear()
  monkeypatch.setattr(rows, "survey", None)  # no second pass
  opened = []
  size_of = images.size_of
  monkeypatch.setattr(
    images, "size_of", lambda p: opened.append(p) or size_of(p)
  )
  again = surveys.survey(file, some, ENCODER)
  assert same(again, new) and again.row(3) is some[3]
  assert opened == list(some[4].images)  # only what had been dropped
  assert file.read_bytes() == before
  assert "dropped 1 of 5 rows, the first: gone" in caplog.text


def test_whatever_differs_is_seen(some, tmp_path):
  key = surveys.key_of(some, ENCODER)
  keys = [key]
  change = dataclasses.replace
  for field, value in (
    ("id", "x"),
    ("question", "Find y."),
    ("reference", "2"),
    ("responses", ("z",)),
    ("images", ()),
    ("before", (Turn("system", "Be brief."),)),
  ):
    other = [*some[:2], change(some[2], **{field: value}), *some[3:]]
    keys.append(surveys.key_of(other, ENCODER))
  keys.append(surveys.key_of(some[::-1], ENCODER))
  keys.append(surveys.key_of(some[:-1], ENCODER))
  for field, value in (
    ("budget", PixelBudget(3136, 12545)),
    ("buckets", ENCODER.buckets[1:]),
    ("max_new_tokens", 8),
  ):
    keys.append(surveys.key_of(some, change(ENCODER, **{field: value})))
  chat = Words()
  chat.fingerprint = "other"
  keys.append(surveys.key_of(some, change(ENCODER, chat=chat)))
  pixels = some[2].images[0].copy()
  pixels[-1, -1, -1] ^= 1
  other = change(some[2], images=(pixels,))
  keys.append(surveys.key_of([*some[:2], other, *some[3:]], ENCODER))
  file = tmp_path / "a.png"
  state = os.stat(file)
  os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
  keys.append(surveys.key_of(some, ENCODER))
  os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
  assert surveys.key_of(some, ENCODER) == key
  with file.open("ab") as grown:
    grown.write(b"x")
  os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
  keys.append(surveys.key_of(some, ENCODER))
  assert len(set(keys)) == len(keys)


def test_other_code_surveys_again(some, monkeypatch):
  before = surveys.key_of(some, ENCODER)
  monkeypatch.setattr(surveys, "_code", lambda: "other")
  assert surveys.key_of(some, ENCODER) != before


@pytest.mark.parametrize(
  "spoil, said",
  [
    (lambda text: text.replace('"buckets": [1', '"buckets": [0'), "is damaged"),
    (lambda text: text[:-9], "is not JSON"),
    (lambda text: "", "is empty"),
    (lambda text: "[]", "holds a list"),
    (lambda text: "{}", "is damaged"),
    (lambda text: text.replace("gone", "here"), "is damaged"),
  ],
)
def test_a_damaged_file_is_made_again_and_said(
  some, tmp_path, caplog, spoil, said
):
  file = tmp_path / "some.json"
  new = surveys.survey(file, some, ENCODER)
  whole = file.read_text()
  assert spoil(whole) != whole
  file.write_text(spoil(whole))
  assert same(surveys.survey(file, some, ENCODER, write=False), new)
  assert said in caplog.text and "surveyed again" in caplog.text
  assert file.read_text() != whole  # who may not write does not
  surveys.survey(file, some, ENCODER)
  assert file.read_text() == whole


def test_a_change_is_said_and_the_file_replaced(some, tmp_path, caplog):
  file = tmp_path / "some.json"
  surveys.survey(file, some, ENCODER)
  assert "again" not in caplog.text
  fewer = surveys.survey(file, some[:2], ENCODER)
  assert same(fewer, rows.survey(some[:2], ENCODER))
  assert "of other rows, pictures, settings or code" in caplog.text
  assert len(json.loads(file.read_text())["kept"]) == 2


def test_a_dropped_row_that_can_be_used_now_is_taken_back(
  some, tmp_path, monkeypatch, caplog
):
  file = tmp_path / "some.json"
  with monkeypatch.context() as patch:

    def away(source):
      raise ValueError("the folder is away")

    patch.setattr(images, "size_of", away)
    assert len(surveys.survey(file, some, ENCODER).dropped) == 4
  assert same(surveys.survey(file, some, ENCODER), rows.survey(some, ENCODER))
  assert "drops 'file', which can be used now" in caplog.text


def test_generated_rows_are_recognized_without_drawing_them(monkeypatch):
  world = WorldRows(diagrams.RL_TRAIN, 50, Mixture(seed=3))
  others = (
    dataclasses.replace(world, count=51),
    dataclasses.replace(world, split=diagrams.SFT_TRACES),
    dataclasses.replace(world, responses=Mixture(seed=4)),
    dataclasses.replace(world, responses=None),
  )
  monkeypatch.setattr(diagrams, "sample", None)
  keys = {surveys.key_of(w, ENCODER) for w in (world, *others)}
  assert len(keys) == 5
  assert surveys.key_of(dataclasses.replace(world), ENCODER) in keys
  # What a caller's function writes is known only by calling it.
  mine = dataclasses.replace(world, responses=lambda index, problem: ("x",))
  assert not mine.identity
  with pytest.raises(TypeError):
    surveys.key_of(mine, ENCODER)


def test_a_quick_survey_shows_no_bar(some, capsys):
  rows.survey(some, ENCODER)
  assert capsys.readouterr().err.count("survey") == 0


def test_a_survey_that_takes_long_shows_a_bar(some, capsys, monkeypatch):
  monkeypatch.setattr(bars, "PATIENCE", 0)
  rows.survey(some, ENCODER)
  assert "survey" in capsys.readouterr().err
