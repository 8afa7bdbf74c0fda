"""`make pods`: which cells are compiled anew, and which keep place and mark."""

import collections
import json

import pytest
from absl import flags
from absl.testing import flagsaver

from jaxvlm.plan import matrix, page, table
from tests.plan.page_test import REPORT, SETTING

COMMAND = "pods"
LINES = {name: f"--model={name}" for name in ("first", "second")}


@pytest.fixture
def pods(command, tmp_path, monkeypatch):
  """Returns (start, traced, programs); no cell is really compiled.

  `start(**flags)` returns (names of compiled cells, marks by name).
  """
  traced, compiled, programs = [], [], collections.defaultdict(str)

  def fingerprint(line):
    traced.append(line)
    return programs[line]

  def run(line, out, limit):
    compiled.append(line.removeprefix("--model="))
    return {**table.to_json(SETTING, REPORT), "wall_s": 1.0}

  def start(**options):
    del compiled[:], traced[:]
    where = {"out": str(tmp_path / "docs"), "workdir": str(tmp_path / "work")}
    flags.FLAGS(["pods"])
    with flagsaver.flagsaver(**where, **options):
      command.main()
    entries = json.loads((tmp_path / "docs/pods.json").read_text())
    marked = (tmp_path / "docs/pods.md").read_text().count("° |")
    assert marked == sum(entry[page.OLD] for entry in entries)
    return compiled, {entry["name"]: entry[page.OLD] for entry in entries}

  monkeypatch.setattr(matrix, "CELLS", LINES)
  monkeypatch.setattr(command, "_run", run)
  monkeypatch.setattr(command, "_fingerprint", fingerprint)
  return start, traced, programs


def test_cells_are_compiled_once_and_again_when_they_change(pods):
  start, _, programs = pods
  assert start(only="st|nd") == (list(LINES), dict.fromkeys(LINES, False))
  programs[LINES["second"]] = "another"
  # It is kept with a mark, keeps the mark while nobody looks, and loses it.
  kept = {"first": False, "second": True}
  assert start(only="st|nd", keep=True) == ([], kept)
  assert start(only="first") == ([], kept)
  assert start(only="second") == (["second"], dict.fromkeys(LINES, False))


def test_what_is_left_out_is_not_traced(pods):
  start, traced, _ = pods
  assert start(only="first") == (["first"], {"first": False})
  assert traced == [LINES["first"]]


def test_a_program_that_is_what_it_was_loses_its_mark(pods):
  start, _, programs = pods
  start(only="first")
  programs[LINES["first"]] = "another"
  assert start(only="first", keep=True) == ([], {"first": True})
  programs[LINES["first"]] = ""
  assert start(only="first") == ([], {"first": False})
