"""The comparison of two commits: what it reads, and that it sees a change."""

import json
import re

import numpy as np
import pytest

from jaxvlm.train.checkpoint import Checkpoints
from scripts import golden

WEIGHT = np.array([1.0, -0.0, np.nan], np.float32)


def leave(workdir, *, weight=WEIGHT, loss=0.25, more=()):
  """Writes what a job leaves behind: one stage of two steps."""
  stage = workdir / "seed-0" / "opd" / "grpo"
  checkpoints = Checkpoints(stage / "checkpoints", identity={"run": "a"})
  for step in (1, 2):
    state = {"trainable": {"head": weight * step}, "step": np.int32(step)}
    checkpoints.save(step, state, blocking=True)
  records = [
    {"step": step, "loss/total": loss, "time/s": id(workdir), **dict(more)}
    for step in (1, 2)
  ]
  log = "\n".join(map(json.dumps, records))
  (stage / "metrics.jsonl").write_text(log + "\n")
  return golden.read(workdir)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
  return leave(tmp_path_factory.mktemp("known"))


def test_the_last_checkpoint_and_all_metrics_but_times_are_read(known):
  (head,) = (x for name, x in known.arrays.items() if "head" in name)
  assert head.tobytes() == (2 * WEIGHT).tobytes()
  assert len(known.arrays) == 2 and len(known.metrics) == 4
  assert known.metrics["seed-0/opd/grpo step 2 loss/total"] == 0.25


def test_equal_runs_are_equal(known, tmp_path):
  assert golden.difference(known, leave(tmp_path)) == ""


@pytest.mark.parametrize(
  "change, said",
  [
    ({"weight": WEIGHT + np.float32(1e-7)}, "head"),
    ({"weight": np.abs(WEIGHT)}, "head"),  # 0 is not -0
    ({"weight": WEIGHT.astype(np.float16)}, "head.*float32.*float16"),
    ({"loss": 0.25 + 2**-54 * 4}, "step 1 loss/total: 0.25 is now 0.2500"),
    ({"more": {"new": 1.0}}, "step 1 new: only in NEW"),
  ],
)
def test_a_change_of_one_bit_is_named(known, tmp_path, change, said):
  found = golden.difference(known, leave(tmp_path, **change))
  assert re.search(said, found), found


def test_a_run_that_left_nothing_is_an_error(tmp_path):
  with pytest.raises(ValueError, match="no checkpoint"):
    golden.read(tmp_path)


def test_the_source_tree_is_what_runs_and_its_last_words_are_shown(tmp_path):
  room = tmp_path / "source" / "experiments" / "stage1_entropy"
  room.mkdir(parents=True)
  for package in (room, room.parent):
    (package / "__init__.py").touch()
  (room / "run.py").write_text("import sys; sys.exit('mine: ' + sys.argv[2])")
  with pytest.raises(RuntimeError, match="failed:\nmine: --quick"):
    golden.run(tmp_path / "source", tmp_path / "work", ["--quick"], "")
