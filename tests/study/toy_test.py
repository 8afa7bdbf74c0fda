"""A study in little, settings to page; and one that trains nothing."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from jaxvlm import journal
from jaxvlm.study import claims, main, page, read
from jaxvlm.study.claims import Claim, Comparison
from jaxvlm.study.design import Design, Point
from jaxvlm.study.results import Results
from jaxvlm.study.verdicts import Verdict, above
from tests import tiny
from tests.study import toy_study

STAGES = [
  f"seed-0/{arm}/{stage}"
  for arm in ("short", "long")
  for stage in ("sft", "grpo")
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  model, workdir = (tmp_path_factory.mktemp(name) for name in ("model", "toy"))
  tiny.write_folder(model, tiny.corpus())
  config = dataclasses.replace(toy_study.laptop(), model_dir=str(model))
  path = main.execute(toy_study.STUDY, config, workdir)
  assert path == workdir / "report.html"
  return workdir


def test_every_stage_of_every_arm_is_trained_and_measured(finished):
  lengths = {}
  for stage in STAGES:
    log = journal.read(finished / stage / "metrics.jsonl")
    lengths[stage] = len(log) - 1
    assert all(np.isfinite(r["loss/total"]) for r in log[1:])
    assert {"eval/in_domain/accuracy", "eval/in_domain/pass@2"} <= set(log[-1])
  assert list(lengths.values()) == [1, 2, 2, 2]
  config = json.loads((finished / "config.json").read_text())
  assert config["grpo"]["group"] == 2
  assert config["problems"]["in_domain"]["found"] == 4


def test_its_page_has_claims_figures_samples_and_settings(finished):
  text = (finished / "report.html").read_text()
  for said in ("T1 ·", "T2 ·", "degenerate_groups", "Find", "grpo.group"):
    assert said in text
  found = read.load(finished, toy_study.DESIGN)
  assert found.gaps == ()
  # One base, whatever arm measured it.
  assert found.untrained == Point("short", "sft")
  decided = claims.findings(found, toy_study.CLAIMS)
  assert Verdict.NOT_MEASURED not in {finding.verdict for finding in decided}
  assert "| T1 A longer SFT" in (finished / "results.md").read_text()


def test_a_finished_seed_is_not_run_again(finished, tmp_path, monkeypatch):
  """Its folder is gone; what was measured is kept, and enough."""
  for name in ("config.json", "measured.npz"):
    shutil.copy(finished / name, tmp_path)
  monkeypatch.setattr(main, "Lab", None)  # no run is begun
  saved = json.loads((finished / "config.json").read_text())
  config = dataclasses.replace(toy_study.laptop(), model_dir=saved["model_dir"])
  main.execute(toy_study.STUDY, config, tmp_path)
  tables = [(f / "results.md").read_text() for f in (finished, tmp_path)]
  assert tables[0] == tables[1]
  with pytest.raises(TypeError, match="not callable"):
    more = dataclasses.replace(config, seeds=2)
    main.execute(toy_study.STUDY, more, tmp_path)


def test_a_study_of_arrays_alone_is_decided_and_shown(tmp_path):
  """A map that joins what others measured trains nothing and has no stages."""
  rng = np.random.default_rng(0)
  low, high = rng.random(40), 1 + rng.random(40)
  design = Design(
    arms={"sft": "SFT", "dpo": "DPO"}, problem_sets={"coco": "COCO"}
  )
  scores = {
    Point("sft"): {0: {"cider": low}},
    Point("dpo"): {0: {"cider": high}},
  }
  found = Results(design, (0,), {"coco": scores})
  claim = Claim(
    id="M1",
    text="Preferences raise CIDEr.",
    paper="higher",
    rule="Reproduced if the interval lies above 0.",
    problem_set="coco",
    metric="cider",
    comparisons=lambda results: [
      Comparison("DPO − SFT", Point("dpo"), Point("sft"), above(0.0))
    ],
  )
  (finding,) = claims.findings(found, [claim])
  assert finding.verdict is Verdict.REPRODUCED
  mean = finding.contrasts[0].interval.mean
  assert mean == pytest.approx(float((high - low).mean()))
  path = page.write(tmp_path, found, [claim], title="A map", preface="Before.")
  text = path.read_text()
  assert "Preferences raise CIDEr." in text and "cider" in text
  assert f"{low.mean():.3f}" in text and "No samples were recorded" in text
  table = (tmp_path / "results.md").read_text()
  assert "| policy | cider |" in table and f"| SFT | {low.mean():.3f}" in table
