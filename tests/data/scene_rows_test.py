"""Rows of scenes: captions, careless ones, pairs; drops of bad pairs."""

import collections
import dataclasses
import json

import pytest

from jaxvlm.data import negatives, rows, scenes
from jaxvlm.data.negatives import Kind
from jaxvlm.data.rows import Row
from jaxvlm.data.sources.scenes import (
  QUESTION,
  Captions,
  Careless,
  Pairs,
  SceneRows,
  two_stages,
)
from jaxvlm.tasks import scenes as task_lib
from jaxvlm.tasks import score

TRAIN = SceneRows(scenes.TRAIN, range(400))


def _exact(text, row):
  return scenes.agreement(scenes.read(text), row.reference.meaning).exact


def test_rows_are_lazy_and_slices_too():
  row = TRAIN[7]
  assert row.id == "train/7" and row.question == QUESTION
  assert json.loads(row.reference_text)[1] == list(row.reference.captions)
  assert TRAIN[5:9][2].id == row.id and TRAIN[-1].id == "train/399"
  assert isinstance(TRAIN[5:], SceneRows) and len(TRAIN[5:]) == 395
  with pytest.raises(IndexError):
    TRAIN[400]
  assert TRAIN[5:].identity != TRAIN.identity
  assert dataclasses.replace(TRAIN, responses=lambda i, s: ()).identity == ""


def test_stages_share_no_picture():
  one, two = two_stages(TRAIN)
  assert (len(one), len(two)) == (300, 100)
  assert {r.id for r in one}.isdisjoint(r.id for r in two)


def test_captions_are_right_in_the_wording_asked_for():
  plain = Captions(2, wordings=(scenes.PLAIN,), seed=1)
  for row in dataclasses.replace(TRAIN, responses=plain)[:50]:
    assert len(set(row.responses)) == 2
    assert all(_exact(text, row) for text in row.responses)
    assert not any("little" in text or "one" in text for text in row.responses)


def test_careless_captions_are_wrong_as_often_as_asked():
  found = dataclasses.replace(TRAIN, responses=Careless(0.5, texts=2, seed=1))
  right = [_exact(text, row) for row in found for text in row.responses]
  # 800 captions; a wrong one becomes right again about never.
  assert 0.45 < sum(right) / len(right) < 0.55


@pytest.mark.parametrize("kinds", [negatives.GENTLE, negatives.EASY])
def test_pairs_are_right_and_wrong_and_say_how(kinds):
  found = dataclasses.replace(TRAIN, responses=Pairs(kinds, fresh=0.25))
  count, fresh = collections.Counter(), 0
  for row in found:
    (chosen, rejected), (right, kind) = row.responses, row.kinds
    assert right == "" and _exact(chosen, row) == 1
    assert _exact(rejected, row) == 0
    count[kind] += 1
    fresh += "little" in chosen or "big" in chosen
  assert set(count) == set(kinds)
  # A relation needs two things; the others share what is left.
  assert min(count.values()) > 400 / len(kinds) / 2
  assert 0.17 < fresh / 400 < 0.33


def test_pairs_refuse_what_they_do_not_know():
  with pytest.raises(ValueError, match="policy"):
    Pairs((Kind.POLICY,))
  with pytest.raises(ValueError, match="fresh is 2"):
    Pairs(fresh=2)


def _row(responses, kinds=("", "file")):
  return Row("r", "q", "a", responses=responses, kinds=kinds)


def test_a_pair_of_equals_is_dropped_with_its_reason():
  with pytest.raises(ValueError, match=r"rejected response \(file\) is the ch"):
    rows.check_pair(_row(("A dog.", "a  dog")))
  rows.check_pair(_row(("a dog", "a cat")))
  rows.check_pair(_row(("a dog", "a dog"), ("", "")))
  with pytest.raises(ValueError, match="1 kinds of 2 responses"):
    _row(("a", "b"), ("",))


def test_the_task_scores_exactly():
  task = task_lib.task()
  found = task.rows("validation")[:3]
  right = [row.reference.captions[0] for row in found]
  scored = score(task, right, found)
  assert scored["exact"].tolist() == [1, 1, 1]
  assert scored["CIDEr"].min() > 2
  assert score(task, ["a", "b", "c"], found)["reward"].tolist() == [0, 0, 0]
  with pytest.raises(ValueError, match="'test' of the scenes is not known"):
    task.rows("test")
