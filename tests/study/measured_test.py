"""The file of scores: what a report needs, and nothing else."""

import dataclasses
import shutil

import numpy as np
import pytest

from jaxvlm.study import measured, read
from jaxvlm.study.design import Design, Point
from jaxvlm.study.results import Results
from tests.study import synthetic

DESIGN = Design(
  arms=dict.fromkeys(synthetic.ARMS, ""),
  stages={"stage1": "Stage 1", "grpo": "RL"},
  problem_sets={"in_domain": "in-domain"},
  last="grpo",
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
  return synthetic.write(
    tmp_path_factory.mktemp("study"), seeds=2, problems=12, every=60
  )


def _alone(study, folder):
  """Returns the results where the file and config.json have survived."""
  folder.mkdir()
  for name in ("config.json", measured.FILE):
    shutil.copy(study / name, folder)
  return read.load(folder, DESIGN)


def test_the_file_alone_gives_the_results_of_the_folders(study, tmp_path):
  results = read.load(study, DESIGN)
  measured.write(study, results)
  found = _alone(study, tmp_path / "file")
  assert found.seeds == results.seeds == (0, 1)
  assert found.gaps == results.gaps and found.config == results.config
  assert found.scores.keys() == results.scores.keys()
  for name, points in results.scores.items():
    assert found.scores[name].keys() == points.keys()
    for point, by_seed in points.items():
      for seed, scores in by_seed.items():
        again = found.scores[name][point][seed]
        assert again.keys() == scores.keys()
        for metric, values in scores.items():
          np.testing.assert_array_equal(again[metric], np.float32(values))


def test_what_steps_logged_comes_back_without_times_and_gaps(tmp_path):
  records = [
    {"step": 0, "eval/in_domain/accuracy": 0.5},
    {"step": 1, "loss/total": 0.25, "time/update_s": 3.0, "note": "text"},
    {"step": 2, "loss/total": 0.125, "policy/entropy": 0.5},
  ]
  journals = {("sft", "stage1"): {7: records}}
  empty = Results(DESIGN, (7,), {}, journals=journals)
  measured.write(tmp_path, empty)
  (found,) = measured.read(tmp_path).journals.values()
  assert found[7] == [
    {"step": 0},
    {"step": 1, "loss/total": 0.25},
    {"step": 2, "loss/total": 0.125, "policy/entropy": 0.5},
  ]


def test_folders_win_and_new_runs_join(study, tmp_path):
  results = read.load(study, DESIGN)
  measured.write(study, results)
  again = tmp_path / "again"
  shutil.copytree(study, again)
  shutil.rmtree(again / "seed-1")
  both = read.load(again, DESIGN)
  assert both.seeds == (0, 1)
  end = Point("opd", "grpo", synthetic.RL_STEPS)
  exact = results.scores["in_domain"][end]
  # The folder's numbers to the bit; the file's to float32.
  of = both.scores["in_domain"][end]
  np.testing.assert_array_equal(of[0]["entropy"], exact[0]["entropy"])
  assert of[1]["entropy"].tolist() != exact[1]["entropy"].tolist()


def test_a_run_is_finished_where_all_sets_were_measured_at_its_end():
  values = {"accuracy": np.ones(3)}
  end, earlier = Point("a", "grpo", 4), Point("b", "grpo", 2)
  kept = measured.Measured(
    scores={
      "easy": {end: {0: values, 1: values}, earlier: {0: values}},
      "deep": {end: {0: values}},
      "probes": {earlier: {0: values}},
    }
  )
  assert kept.seeds == {0, 1}
  assert kept.finished("a", 0, "grpo", 4)
  assert not kept.finished("a", 1, "grpo", 4)
  assert not kept.finished("b", 0, "grpo", 4)
  assert not kept.finished("a", 0, "grpo", 8)
  assert not measured.Measured().finished("a", 0, "grpo", 4)


def test_a_damaged_file_is_named(study, tmp_path):
  (tmp_path / measured.FILE).write_bytes(b"no archive")
  with pytest.raises(ValueError, match=r"measured\.npz cannot be read"):
    read.load(tmp_path, DESIGN)
  results = dataclasses.replace(read.load(study, DESIGN))
  whole = measured.write(tmp_path, results).read_bytes()
  (tmp_path / measured.FILE).write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match="take it from the repository again"):
    measured.read(tmp_path)
