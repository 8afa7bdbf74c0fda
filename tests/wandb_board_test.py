"""The board beside a journal: opened on demand alone, with what is written."""

import sys
import types

import pytest

from jaxvlm import journal, wandb_board


class Run:
  def __init__(self, **settings):
    self.settings, self.logged, self.finished = settings, [], False

  def log(self, values, step):
    self.logged.append((step, values))

  def finish(self):
    self.finished = True


@pytest.fixture
def runs(monkeypatch):
  """Stands in for the package: what it is told."""
  found = []

  def init(**settings):
    found.append(Run(**settings))
    return found[-1]

  package = types.ModuleType("wandb")
  package.init = init
  package.__spec__ = types.SimpleNamespace(name="wandb")
  monkeypatch.setitem(sys.modules, "wandb", package)
  return found


def write(folder, steps, board):
  with journal.Journal(
    folder, total_steps=3, name="mine", progress=False, board=board
  ) as diary:
    for step in steps:
      diary.write(step, {"loss/total": step / 2})


def test_it_gets_every_record_and_one_folder_is_one_run(runs, tmp_path):
  board = wandb_board.opener("project")
  write(tmp_path / "a", [1, 2], board)
  write(tmp_path / "a", [3], board)
  write(tmp_path / "b", [1], board)
  first, again, other = runs
  assert first.logged == [(1, {"loss/total": 0.5}), (2, {"loss/total": 1.0})]
  assert again.logged == [(3, {"loss/total": 1.5})]
  assert first.settings["project"] == "project"
  assert first.settings["id"] == again.settings["id"] != other.settings["id"]
  assert all(run.finished for run in runs)


def test_without_a_board_nothing_is_opened(runs, tmp_path):
  write(tmp_path, [1], None)
  assert not runs


def test_without_the_package_the_flag_is_refused(monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(ValueError, match=r"wandb is not installed.*\[wandb\]"):
    wandb_board.opener("mine")
