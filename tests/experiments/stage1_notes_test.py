"""Every sentence that explains a verdict needs numbers that bear it out."""

import re

import numpy as np
import pytest

from experiments.stage1_entropy import notes
from experiments.stage1_entropy.claims import CLAIMS
from experiments.stage1_entropy.design import DESIGN, TEACHER
from jaxvlm.study import claims
from jaxvlm.study.design import Point
from jaxvlm.study.results import Results

POINTS = [
  TEACHER,
  Point("opd", "stage1", 40),
  Point("opd", "stage1", 120),
  *(Point(arm, "grpo", step) for arm in DESIGN.arms for step in (0, 60)),
]


def _results(means, degenerate=None, seeds=2, problems=90):
  """Studies whose policies have the given means; all else is at one half."""
  rng = np.random.default_rng(0)
  scores = {"in_domain": {}, "out_of_domain": {}}
  for name, points in scores.items():
    for point in POINTS:
      points[point] = {}
      noise = rng.normal(0, 0.03, problems)
      noise -= noise.mean()
      for seed in range(seeds):
        values = means.get((name, point), 0.5) + noise
        values = values + rng.normal(0, 0.01, problems)
        points[point][seed] = {
          key: np.clip(values, 0, 1)
          for key in ("accuracy", "pass@16", "entropy")
        }
  journals = {
    (arm, "grpo"): {0: [{"step": 1, "reward/degenerate_groups": share}]}
    for arm, share in (degenerate or {}).items()
  }
  settings = {"grpo": {"steps": 60}}
  return Results(DESIGN, tuple(range(seeds)), scores, settings, journals)


@pytest.fixture(autouse=True)
def samples(monkeypatch):
  monkeypatch.setattr(Results, "top_k", 16)


def _note(name, found):
  claim = next(claim for claim in CLAIMS if claim.id == name)
  return notes.NOTES[name](found, claims.contrasts(claim, found))


END, ENTRY = Point("opd", "grpo", 60), Point("sft_over", "grpo", 0)
BASE = Point("base", "grpo", 0)
SPARSE = {"opd": 0.3, "sft_early": 0.6, "sft_over": 0.7}


def test_c4_needs_opd_above_and_more_degenerate_groups_below_it():
  above = {("in_domain", END): 0.6}
  text = _note("C4", _results(above, SPARSE))
  assert "30 % (OPD), 60 % (early SFT), 70 % (over-trained SFT)" in text
  assert "conjecture" in text
  assert not _note("C4", _results({}, SPARSE))
  assert not _note("C4", _results({("in_domain", END): 0.4}, SPARSE))
  assert not _note("C4", _results(above))
  assert not _note("C4", _results(above, SPARSE | {"opd": 0.65}))


def test_c5_needs_a_loss_before_and_after_rl():
  before = {("in_domain", ENTRY): 0.4}
  after = {("in_domain", ENTRY._replace(step=60)): 0.45}
  text = _note("C5", _results(before | after))
  lost, left = map(float, re.findall(r"\d+\.\d", text))
  assert (lost, left) == (pytest.approx(10, abs=1), pytest.approx(5, abs=1))
  assert not _note("C5", _results(before))
  assert not _note("C5", _results(after))


def test_c6_needs_a_base_near_the_floor_and_no_damage():
  floor = {("out_of_domain", point): 0.13 for point in POINTS}
  assert "right on 13 % of these" in _note("C6", _results(floor))
  assert not _note("C6", _results({}))
  damaged = floor | {("out_of_domain", ENTRY): 0.05}
  assert not _note("C6", _results(damaged))


def test_c7a_needs_a_far_teacher_that_is_not_reached():
  far = {("in_domain", TEACHER): 0.9}
  assert "this one 40." in _note("C7a", _results(far))
  reached = far | {("in_domain", Point("opd", "grpo", 0)): 0.92}
  assert not _note("C7a", _results(reached))
  assert not _note("C7a", _results({("in_domain", TEACHER): 0.6}))


def test_c8_names_only_arms_that_do_not_gain_and_lack_gradients():
  gains = {("in_domain", END._replace(arm="sft_early")): 0.6}
  text = _note("C8", _results(gains, SPARSE))
  assert "70 % (over-trained SFT)" in text
  assert "early SFT" not in text and "OPD" not in text and "60 steps" in text
  assert not _note("C8", _results({}))


def test_c9_counts_the_problems_that_were_measured():
  rng = np.random.default_rng(1)
  wide = {("out_of_domain", point): rng.random(30) for point in POINTS}
  text = _note("C9", _results(wide, problems=30))
  assert text.startswith("30 problems and 2 seeds")
  assert not _note("C9", _results({}))


def test_no_note_stands_under_a_smoke_test():
  found = _results({("in_domain", TEACHER): 0.9})
  assert any(f.note for f in claims.findings(found, CLAIMS, notes.NOTES))
  found.config["grpo"]["steps"] = 10
  assert not any(
    f.note and f.claim.id == "C7a" and "this one" in f.note
    for f in claims.findings(found, CLAIMS, notes.NOTES)
  )
