"""The file of answers: kept as they are drawn, gone on with, begun anew."""

import json

import jax
import numpy as np
import pytest

from jaxvlm.eval import drawn, harness
from jaxvlm.eval.drawn import Drawn, Log
from tests.eval import harness_test
from tests.eval.harness_test import calls, problem_set

ONE = Drawn("é\n\\boxed{1}", 3, True, np.float32(0.1), np.float32(1 / 3))
TWO = Drawn("", 1, False, np.float32(0), np.float32(2))
FOUND = {(0, 1): [ONE, TWO], (0, 0): [TWO, TWO]}


@pytest.fixture
def file(tmp_path):
  return tmp_path / "out" / f"toy{drawn.SUFFIX}"


def test_answers_come_back_to_the_bit(file):
  Log(file, {"seed": 0}, ["a", "b"]).add(FOUND)
  assert Log(file, {"seed": 0}, ["a", "b"]).found == FOUND
  line = json.loads(file.read_text().splitlines()[1])
  assert line["id"] == "b" and line["samples"][0]["text"] == ONE.text


def test_a_torn_line_is_cut_and_other_settings_begin_anew(file):
  Log(file, {"seed": 0}, ["a", "b"]).add(FOUND)
  file.write_text(file.read_text()[:-9])
  again = Log(file, {"seed": 0}, ["a", "b"])
  assert again.found == {(0, 1): [ONE, TWO]}
  again.add({(0, 0): [TWO, TWO]})
  assert Log(file, {"seed": 0}, ["a", "b"]).found == FOUND
  assert Log(file, {"seed": 1}, ["a", "b"]).found == {}
  assert len(file.read_text().splitlines()) == 1


def test_a_file_that_is_no_text_begins_anew(file):
  file.parent.mkdir()
  file.write_bytes(b"\xff\xfe\x00")
  assert Log(file, {}, ["a"]).found == {}


def evaluate(log=None, rounds=2):
  return harness.evaluate(
    problem_set(),
    harness_test.generate,
    0,
    jax.random.key(0),
    decode=harness_test.decode,
    rounds=rounds,
    log=log,
  )


def test_a_cut_off_evaluation_draws_the_rest_and_equals_a_whole_one(file):
  ids = [row.id for row in problem_set().rows]
  whole = evaluate(Log(file, {}, ids))
  lines = file.read_text().splitlines(keepends=True)
  assert len(lines) == 1 + 2 * 5
  batches = len(calls)
  calls.clear()
  file.write_text("".join(lines[:7]) + lines[7][:20])
  again = evaluate(Log(file, {}, ids))
  assert 0 < len(calls) < batches
  calls.clear()
  assert evaluate(Log(file, {}, ids)).answers == again.answers
  assert not calls
  for one in (again, evaluate()):
    assert one.answers == whole.answers
    np.testing.assert_array_equal(one.entropies, whole.entropies)
    np.testing.assert_array_equal(one.neg_logprobs, whole.neg_logprobs)
