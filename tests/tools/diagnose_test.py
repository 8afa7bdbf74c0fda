"""`jaxvlm diagnose`: end to end on models of a few thousand parameters."""

import json

import pytest
from absl import flags
from absl.testing import flagsaver

from tests import tiny
from tests.tasks.code_test import HUMANEVAL, write

COMMAND = "diagnose"
SHORT = (
  "--samples=4", "--group_size=2", "--problems=3", "--batch=2",
  "--max_new_tokens=4", "--sandbox=rlimits",
)  # fmt: skip


def said(command, capsys, *words):
  with flagsaver.flagsaver():
    flags.FLAGS(["diagnose", *words])
    command.main()
  return capsys.readouterr().out


@pytest.fixture
def file(tmp_path):
  problems = [{**HUMANEVAL, "task_id": f"Ours/{i}"} for i in range(3)]
  return write(tmp_path / "HumanEval.jsonl", *problems)


@pytest.mark.slow
def test_two_checkpoints_are_ranked(command, capsys, tmp_path, file):
  family = next(iter(tiny.TEXTS))
  for name in ("one", "two"):
    (tmp_path / name).mkdir()
    tiny.write_text_folder(tmp_path / name, tiny.TEXTS[family])
  text = said(
    command,
    capsys,
    f"--model_dir={tmp_path}/one,{tmp_path}/two",
    f"--data={file}",
    "--task=humaneval",
    "--style=completion",
    f"--out={tmp_path}/out",
    *SHORT,
  )
  # Random weights solve nothing: of three problems little is known, and it
  # is said.
  assert f"1. {tmp_path}/one: " in text and f"2. {tmp_path}/two: " in text
  assert "0% [0%, 71%] of groups of 2 carry a gradient" in text
  assert "entropy, prompt (nats)" in text and "pass@4" in text
  found = json.loads((tmp_path / "out/diagnosis.json").read_text())
  assert [one["name"][-3:] for one in found] == ["one", "two"]
  one, two = found
  # Equal weights and noise give equal numbers.
  assert {**one, "name": ""} == {**two, "name": ""}
  assert one["advice"] == "unsure" and one["headroom"]["rates"] == [0, 0, 0]
  assert one["prompt_entropy"]["mean"] > 1
  page = (tmp_path / "out/diagnosis.html").read_text()
  assert page.count("data:image/png") == 3 and "Before RL" in page
  for name in ("entropy_pass", "headroom_1", "headroom_2"):
    assert (tmp_path / f"out/{name}.png").read_bytes()[1:4] == b"PNG"


def test_a_threshold_of_ones_own(command, tmp_path):
  ladder = [
    {"entropy": 0.3, "before": 0.5, "after": 0.6},
    {"entropy": 0.1, "before": 0.6, "after": 0.2},
    {"entropy": 0.2, "before": 0.6, "after": 0.7},
  ]
  runs = command._ladder(write(tmp_path / "ladder.jsonl", *ladder))
  assert runs == ([0.3, 0.1, 0.2], [False, True, False])
  told = command._of_calibration(command.calibrate(*runs, replicates=5))
  assert "threshold 0.150 nats" in told and "of 1 that collapsed" in told
  bad = write(tmp_path / "bad.jsonl", ladder[0], {"entropy": 0.1})
  with pytest.raises(ValueError, match="bad.jsonl, line 2: KeyError 'before'"):
    command._ladder(bad)


@pytest.mark.parametrize(
  "words,error,said_of",
  [
    (
      ("--samples=4",),
      ValueError,
      "samples is 4, expected at least group_size",
    ),
    (("--group_size=1",), ValueError, "g: got 1, expected an integer group"),
    (("--temperature=0",), ValueError, "temperature is 0.0"),
    (("--task=humaneval",), ValueError, "needs its file HumanEval"),
    (("--data=x",), ValueError, "task world is generated"),
    (("--task=mbpp", "--data=/x/y"), FileNotFoundError, "/x/y does not exist"),
    (("--problems=2", "--style=completion"), ValueError, "reads pictures"),
  ],
)
def test_what_is_refused_before_a_model_is_read(
  command, capsys, words, error, said_of
):
  with pytest.raises(error, match=said_of):
    said(command, capsys, *words)
