"""The study's report on made-up runs whose effects are known."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from experiments.stage1_entropy.claims import CLAIMS
from experiments.stage1_entropy.design import DESIGN
from experiments.stage1_entropy.report import write_report
from jaxvlm.eval.figures import Picture
from jaxvlm.study import claims, galleries, read
from jaxvlm.study.design import Point
from jaxvlm.study.verdicts import Verdict
from tests.study import synthetic

# No note for a claim whose numbers do not bear it out.
_SMALL = {
  "C7a": lambda results, contrasts: "The student is <small>.",
  "C8": lambda results, contrasts: "",
}

PICTURE = Picture(b"PNG", "curve,x,y\n")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  return synthetic.write(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def page(finished):
  return write_report(finished, notes=_SMALL).read_text("utf-8")


@pytest.fixture
def undrawn(monkeypatch):
  """Pages without their figures, which take most of the time."""
  monkeypatch.setattr(galleries.figures, "panel", lambda *_, **__: PICTURE)


@pytest.fixture
def copy(finished, tmp_path, undrawn):
  # Without what a page before may have kept of it (`study/measured`).
  kept = shutil.ignore_patterns("measured.npz")
  return shutil.copytree(finished, tmp_path / "study", ignore=kept)


def _verdicts(workdir):
  found = claims.findings(read.load(workdir, DESIGN), CLAIMS, {})
  return {finding.claim.id: finding.verdict for finding in found}


def test_finds_the_effects_that_were_put_in(finished):
  verdicts = _verdicts(finished)
  expected = dict.fromkeys(
    ("C1", "C2", "C4", "C5", "C6", "C7b", "C8"), Verdict.REPRODUCED
  ) | {"C7a": Verdict.NOT_REPRODUCED}
  assert {k: verdicts[k] for k in expected} == expected


def test_reversed_effects_are_not_reproduced(tmp_path):
  arms = synthetic.ARMS | {
    # Lowest entropy, no out-of-domain loss of the over-trained arm, an
    # endpoint apart from the others, and a loss by RL for the base.
    "opd": (0.50, 0.05, 0.80, 0.02, 0.44),
    "sft_over": (0.45, 0.30, 0.60, 0.20, 0.41),
    "base": (0.50, 0.45, 0.30, 0.20, 0.40),
  }
  verdicts = _verdicts(synthetic.write(tmp_path / "study", arms=arms))
  failed = {k for k, v in verdicts.items() if v is Verdict.NOT_REPRODUCED}
  assert {"C1", "C2", "C4", "C6", "C8"} <= failed


def test_page_has_all_parts_in_order(page):
  headings = re.findall(r"<h2>([^<]*)</h2>", page)
  assert [h.replace("&#39;", "'") for h in headings] == [
    "The paper's claims",
    "Figures",
    "The paper's numbers beside ours",
    "All measurements",
    "Samples",
    "How this was run",
  ]
  ids = re.findall(r"<header><p>(C\w+) ·", page)
  assert ids == [claim.id for claim in CLAIMS]
  assert "The student is &lt;small&gt;." in page
  assert "runs/&lt;study&gt;" in page
  assert "Find &lt;x&gt; in triangle 0." in page
  assert "Not complete" not in page
  assert not re.search(r'(src|href)="(?!data:|#s)', page)


def test_page_shows_the_numbers_that_were_measured(finished, page):
  found = read.load(finished, DESIGN)
  for arm in DESIGN.arms:
    for point in (found.entry(arm), found.endpoint(arm)):
      mean, low, high = found.interval(point, "in_domain", "accuracy")
      cell = f"<b>{100 * mean:.1f}</b> "
      cell += f'<span class="ci">[{100 * low:.1f}, {100 * high:.1f}]</span>'
      assert cell in page


def test_figures_are_saved_beside_the_page(finished, page):
  names = {path.stem for path in (finished / "figures").glob("*.png")}
  assert {
    "entropy_evaluated_stage1",
    "entropy_evaluated_grpo",
    "entropy_logged_grpo",
    "accuracy_in_domain",
    "pass_at_16_out_of_domain",
    "pass_at_k_in_domain_endpoint",
    "length",
    "distinct_answers",
    "reward",
    "degenerate_groups",
  } <= names
  assert page.count('alt="') >= len(names)


def test_same_files_give_the_same_page(finished, page):
  again = write_report(finished, notes=_SMALL)
  assert again.read_text("utf-8") == page


def test_missing_arm_is_named_and_its_claims_are_not_measured(copy):
  for seed in range(2):
    shutil.rmtree(copy / f"seed-{seed}" / "sft_early")
  page = write_report(copy).read_text("utf-8")
  assert "Arm sft_early was not run." in page
  verdicts = _verdicts(copy)
  assert verdicts["C1"] is Verdict.NOT_MEASURED
  assert verdicts["C7b"] is Verdict.REPRODUCED


def test_entropy_band_is_a_share_of_the_entropy_itself(tmp_path):
  # Above both SFT arms beyond doubt, but by a twentieth only.
  arms = synthetic.ARMS | {
    "sft_early": (0.42, 0.951, 0.66, 0.95, 0.41),
    "sft_over": (0.45, 0.951, 0.655, 0.95, 0.28),
    "opd": (0.50, 1.0, 0.665, 1.1, 0.44),
  }
  workdir = synthetic.write(tmp_path / "study", arms=arms, seeds=3)
  verdicts = _verdicts(workdir)
  assert verdicts["C1"] is Verdict.NOT_REPRODUCED
  assert verdicts["C2"] is Verdict.REPRODUCED


def test_coincidence_at_the_end_of_the_scale_is_said(tmp_path):
  arms = {arm: (*v[:2], 0.995, *v[3:]) for arm, v in synthetic.ARMS.items()}
  workdir = synthetic.write(tmp_path / "study", arms=arms, seeds=1)
  found = claims.findings(read.load(workdir, DESIGN), CLAIMS, {})
  notes = {finding.claim.id: finding.note for finding in found}
  assert "near the end of the scale" in notes["C4"]
  assert "near the end of the scale" not in notes["C9"]


def test_intervals_of_a_claim_are_wider_than_each_by_itself(finished):
  found = read.load(finished, DESIGN)
  claim = next(c for c in CLAIMS if c.id == "C9")
  pairs = [(c.a, c.b) for c in claim.comparisons(found)]
  together = found.differences(pairs, "out_of_domain", "pass@16")
  assert len(together) == 15
  one_seed = dataclasses.replace(found, seeds=(0,), _intervals={})
  alone = one_seed.difference(*pairs[0], "out_of_domain", "pass@16")
  both = one_seed.differences(pairs, "out_of_domain", "pass@16")[0]
  assert both.interval.mean == pytest.approx(alone.interval.mean)
  assert both.interval.low < alone.interval.low
  assert both.interval.high > alone.interval.high


def test_endpoint_is_the_mean_of_the_last_evaluations_of_each_seed(copy):
  synthetic.change_settings(copy, evaluation={"endpoint_evaluations": 2})
  found = read.load(copy, DESIGN)
  end = found.endpoint("opd")
  assert end.steps == (40, 60)
  for metric in ("accuracy", "pass@16", "entropy"):
    apart = [
      found.scores["in_domain"][Point("opd", "grpo", step)][seed][metric]
      for step in (40, 60)
      for seed in (0, 1)
    ]
    np.testing.assert_allclose(
      found.values(end, "in_domain", metric), np.mean(apart, axis=0)
    )
    assert found.per_seed(end, "in_domain", metric)[1] == pytest.approx(
      np.mean(apart[1::2])
    )
  page = write_report(copy).read_text("utf-8")
  assert "mean of the evaluations at steps 40 and 60" in page
  # A seed that lacks one of them has no endpoint.
  for name in DESIGN.problem_sets:
    (copy / f"seed-1/opd/grpo/eval/{name}-00040.npz").unlink()
  found = read.load(copy, DESIGN).by_seed(end, "in_domain", "accuracy")
  assert list(found) == [0]


def test_smoke_test_says_so_first_and_gives_no_verdict(copy):
  synthetic.change_settings(copy, grpo={"steps": 20})
  page = write_report(copy).read_text("utf-8")
  assert page.index("Smoke test") < page.index("At RL entry")
  verdicts = re.findall(r'<span class="verdict">([^<]*)</span>', page)
  assert set(verdicts) == {"no verdict"}
  assert "Of 10 claims" not in page


def test_one_seed_says_so_first_and_marks_its_verdicts(copy):
  shutil.rmtree(copy / "seed-1")
  page = write_report(copy).read_text("utf-8")
  assert page.index("One seed") < page.index("At RL entry")
  verdicts = re.findall(r'<span class="verdict">([^<]*)</span>', page)
  assert all(verdict.endswith(" (one seed)") for verdict in verdicts)
  assert "problems and runs" not in page


def test_temperatures_come_from_the_settings(copy):
  synthetic.change_settings(
    copy,
    evaluation={"temperature": 0.6},
    grpo={"temperature": 0.8},
    opd={"temperature": 0.0},
  )
  labels = {}

  def panel(*_, title, ylabel, **__):
    labels[title] = ylabel
    return PICTURE

  galleries.figures.panel = panel  # put back by the fixture
  page = write_report(copy).read_text("utf-8")
  of = {k: re.findall(r"T = [\d.]+", v) for k, v in labels.items()}
  assert of["Stage 1: entropy on validation problems"] == ["T = 0.6"]
  assert of["Stage 2 (GRPO): entropy on validation problems"] == ["T = 0.6"]
  assert of["Stage 2 (GRPO): entropy on the batch of every step"] == ["T = 0.8"]
  # The given solutions of SFT are read at 1; greedy samples as well.
  label = labels["Stage 1: entropy on the batch of every step"]
  assert "T = 1; OPD: greedy, T = 1" in label
  assert "the mean over samples (T = 0.6)" in page
  assert "temperature 1" not in page


def test_stage1_only_writes_a_page(copy):
  for seed in range(2):
    for arm in synthetic.ARMS:
      shutil.rmtree(copy / f"seed-{seed}" / arm / "grpo")
    shutil.rmtree(copy / f"seed-{seed}" / "teacher")
  (copy / "config.json").unlink()
  page = write_report(copy).read_text("utf-8")
  assert "No arm has taken a step of RL yet" in page
  assert "The teacher was not evaluated." in page
  assert "not recorded" in page


def test_no_out_of_domain_problems(copy):
  for path in copy.rglob("out_of_domain-*.npz"):
    path.unlink()
  page = write_report(copy).read_text("utf-8")
  assert "Nothing was evaluated on out_of_domain." in page
  assert _verdicts(copy)["C6"] is Verdict.NOT_MEASURED


def test_fewer_samples_than_sixteen(tmp_path, undrawn):
  workdir = synthetic.write(tmp_path / "s", seeds=1, problems=30, samples=8)
  page = write_report(workdir).read_text("utf-8")
  assert "decided on pass@8" in page
  # The paper's numbers keep their name.
  assert "In-domain pass@16 (here pass@8) at RL entry" in page
  assert (workdir / "figures/pass_at_8_in_domain.png").exists()


def test_torn_journal_and_nan_do_not_stop_the_page(copy):
  path = copy / "seed-0/opd/grpo/metrics.jsonl"
  record = json.dumps({"step": 61, "reward/mean": "NaN", "grad/norm": "inf"})
  path.write_text(path.read_text() + record + '\n{"step": 62, "rew')
  assert write_report(copy).exists()


def test_empty_folder_says_what_to_run(tmp_path):
  with pytest.raises(ValueError, match=r"-m experiments\.stage1_entropy\.run"):
    write_report(tmp_path)


def test_note_for_no_claim_is_refused(finished):
  with pytest.raises(ValueError, match="C99"):
    claims.findings(read.load(finished, DESIGN), CLAIMS, {"C99": _SMALL["C7a"]})
