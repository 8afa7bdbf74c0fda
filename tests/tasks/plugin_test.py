"""Rewards that users write: found, called, and survived."""

import logging
import signal
import sys

import pytest

from jaxvlm.data.rows import Row
from jaxvlm.tasks import graders, plugin
from jaxvlm.tasks import task as tasks

ROWS = [Row("a", "What?", "7", images=("x.png",)), Row("b", "Who?", "8")]
SOURCE = """
import signal
import threading
import time

def plain(response, reference):
  return 1.0 if response == reference else 0

def seen(response, reference, prompt, images, id):
  return float((response, reference, prompt, images, id)
               == ("7", "7", "What?", ["x.png"], "a"))

def everything(**given):
  return len(given)

def torn(response):
  if response == "bad":
    raise KeyError("no such thing")
  return {"nan": float("nan"), "word": "much", "none": None}.get(response, 1)

def several(response):
  return {"reward": 0.5, "accuracy": response == "7", "unsaid": 3}
several.scores = ("accuracy",)

def lacking(response):
  return {"accuracy": 1}

def endless(response):
  while response != "7":
    try:
      next(iter(()))
    except Exception:
      pass
  return 1

def stubborn(response):
  try:
    time.sleep(60)
  except BaseException:
    time.sleep(60)

def main_thread_only(response):
  before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
  signal.alarm(60)
  signal.alarm(0)
  signal.signal(signal.SIGALRM, before)
  return threading.current_thread() is threading.main_thread()

def strange(answer):
  return 1

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
  (tmp_path / "rewards_of_mine.py").write_text(SOURCE)
  monkeypatch.chdir(tmp_path)
  monkeypatch.delitem(sys.modules, "rewards_of_mine", raising=False)
  return "rewards_of_mine"


def scored(name, responses, rows):
  grader = graders.find(name)
  task = graders.task(name, grader, rows)
  return {k: v.tolist() for k, v in tasks.score(task, responses, rows).items()}


def test_a_function_sees_what_it_names(module, tmp_path):
  assert scored(f"{module}:plain", ["7", "7"], ROWS) == {
    "reward": [1, 0],
    "failed": [0, 0],
  }
  file = tmp_path / "rewards_of_mine.py"
  assert scored(f"{file}:seen", ["7", "7"], ROWS)["reward"] == [1, 0]
  assert scored(f"{file}:everything", ["7", "7"], ROWS)["reward"] == [5, 5]


def test_what_fails_counts_zero_and_names_its_row(module, caplog):
  with caplog.at_level(logging.WARNING):
    found = scored(f"{module}:torn", ["fine", "bad"], ROWS)
  assert found == {"reward": [1, 0], "failed": [0, 1]}
  assert "row 'b'" in caplog.text and "no such thing" in caplog.text
  rows = [ROWS[0]] * 4
  found = scored(f"{module}:torn", ["fine", "nan", "word", "none"], rows)
  assert found == {"reward": [1, 0, 0, 0], "failed": [0, 1, 1, 1]}


@pytest.mark.parametrize("name", ["endless", "stubborn"])
def test_what_does_not_return_counts_zero_and_names_its_row(
  module, name, caplog
):
  handler = signal.getsignal(signal.SIGALRM)
  grader = graders.find(f"{module}:{name}", seconds=0.05)
  with caplog.at_level(logging.WARNING):
    if name == "endless":
      found = grader.reward(["7", "8"], ROWS)
      assert found == {"reward": [1, 0], "failed": [0, 1]}
    else:
      with pytest.raises(ValueError, match="failed on all 1 .*longer than"):
        grader.reward(["8"], ROWS[1:])
  for said in (f"{module}:{name}", "row 'b'", "0.05 s", "raise reward_seconds"):
    assert said in caplog.text
  assert signal.getsignal(signal.SIGALRM) is handler
  assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_function_may_use_the_main_thread_and_its_alarm(module):
  found = scored(f"{module}:main_thread_only", ["7", "7"], ROWS)
  assert found == {"reward": [1, 1], "failed": [0, 0]}


def test_a_limit_that_is_none_is_refused(module):
  with pytest.raises(ValueError, match="reward_seconds is 0, expected more"):
    graders.find(f"{module}:plain", seconds=0)


def test_a_function_that_never_works_ends_the_run(module):
  grader = graders.find(f"{module}:lacking")
  with pytest.raises(ValueError, match="failed on all 2 .* row 'a'.*reward"):
    grader.reward(["1", "2"], ROWS)


def test_several_scores_are_said_beforehand(module):
  grader = graders.find(f"{module}:several")
  assert grader.metrics == ("accuracy", "reward")
  found = scored(f"{module}:several", ["7", "8"], ROWS)
  assert found == {"reward": [0.5] * 2, "accuracy": [1, 0], "failed": [0, 0]}


def test_every_named_reward_gives_its_metrics_and_has_a_version():
  right = "<think>6+1</think> \\boxed{7}"
  for name in ("answer", "geometry3k", "easyr1"):
    grader = graders.find(name)
    task = graders.task(name, grader, ROWS)
    found = tasks.score(task, [right, right], ROWS)
    assert found["accuracy"].tolist() == [1, 0], name
    assert set(grader.metrics) < found.keys() and grader.version
    assert grader.answer(right) == "7" and grader.answer("") == ""


def test_the_version_is_of_the_source(module, tmp_path):
  file = tmp_path / "rewards_of_mine.py"
  before = graders.find(f"{file}:plain").version
  assert before == graders.find(f"{file}:seen").version
  file.write_text(SOURCE + "\n# other\n")
  assert graders.find(f"{file}:plain").version != before


@pytest.mark.parametrize(
  "spec,said",
  [
    ("nobody_has_this:f", "cannot be imported: ModuleNotFoundError"),
    ("no/such/file.py:f", "cannot be imported: FileNotFoundError"),
    ("rewards_of_mine:absent", "has no function 'absent'"),
    ("rewards_of_mine:number", "has no function 'number'"),
    ("rewards_of_mine:strange", "takes answer by another name"),
    ("rewards_of_mine:", "expected module:function"),
    ("geometry4k", "expected one of answer, answer_checked, geometry3k"),
  ],
)
def test_what_cannot_be_a_reward_is_refused_by_name(module, spec, said):
  with pytest.raises(ValueError, match=said) as caught:
    graders.find(spec)
  assert repr(spec) in str(caught.value)


def test_a_module_that_ends_the_program_does_not(tmp_path):
  (tmp_path / "quits.py").write_text("raise SystemExit(3)")
  with pytest.raises(ValueError, match="cannot be imported: SystemExit"):
    plugin.find(f"{tmp_path}/quits.py:f")
