"""Results read from made-up studies whose effects are known."""

import shutil

import numpy as np
import pytest

from experiments.stage1_entropy.design import DESIGN, TEACHER
from jaxvlm.diagnostics import bootstrap_interval
from jaxvlm.study import read
from jaxvlm.study.design import Peak, Point
from tests.study import synthetic


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  return synthetic.write(tmp_path_factory.mktemp("study"))


@pytest.fixture
def copy(finished, tmp_path):
  return shutil.copytree(finished, tmp_path / "study")


def test_difference_is_paired_and_pools_seeds(finished):
  found = read.load(finished, DESIGN)
  a, b = found.entry("opd"), found.entry("sft_over")
  difference = found.difference(a, b, "in_domain", "accuracy")
  seeds = list(difference.per_seed.values())
  assert len(seeds) == 2
  np.testing.assert_allclose(difference.interval.mean, np.mean(seeds))
  width = difference.interval.high - difference.interval.low
  alone = found.interval(a, "in_domain", "accuracy")
  # Unpaired, the difference would be wider than each part.
  assert width < alone.high - alone.low


def test_a_peak_is_each_runs_best_evaluation_after_the_first(finished):
  found = read.load(finished, DESIGN)
  peak, metric = Peak("sft_early", "grpo"), "accuracy"
  by_step = {
    step: found.per_seed(Point("sft_early", "grpo", step), "in_domain", metric)
    for step in found.steps("sft_early", "grpo", "in_domain")
  }
  assert len(by_step) > 2
  for seed, value in found.per_seed(peak, "in_domain", metric).items():
    later = {step: of[seed] for step, of in by_step.items() if step}
    assert value == max(later.values())
    step, values = found.peaks(peak, "in_domain", metric)[seed]
    assert later[step] == value == values.mean()
  pair = (peak, found.entry("sft_early"))
  difference = found.difference(*pair, "in_domain", metric)
  assert difference.interval.low > 0  # RL gains 20 points there


def test_pass_at_k_is_of_the_sets_own_samples(finished):
  found = read.load(finished, DESIGN)
  assert found.measured_as("pass@10", "in_domain") == "pass@10"
  assert found.measured_as("pass@64", "in_domain") == "pass@16"
  assert found.measured_as("entropy", "in_domain") == "entropy"


def test_missing_answer_is_no_answer():
  rng = np.random.default_rng(0)
  evaluation = synthetic.evaluation(rng, np.zeros(2), 0.5, 0.1, samples=4)
  answers = (("", "", "7", "7"), ("", "", "", ""))
  object.__setattr__(evaluation, "answers", answers)
  scores = read._scores(evaluation)
  np.testing.assert_array_equal(scores["distinct_answers"], [1.0, 0.0])


def test_base_is_read_before_stage1_where_its_arm_was_not_run(copy):
  before = read.load(copy, DESIGN)
  expected = before.values(before.untrained, "out_of_domain", "accuracy")
  for seed in range(2):
    for problem_set in DESIGN.problem_sets:
      name = f"{problem_set}-00000.npz"
      shutil.copy(
        copy / f"seed-{seed}/base/grpo/eval" / name,
        copy / f"seed-{seed}/opd/stage1/eval" / name,
      )
    shutil.rmtree(copy / f"seed-{seed}" / "base")
  found = read.load(copy, DESIGN)
  assert found.untrained == Point("opd", "stage1", 0)
  np.testing.assert_array_equal(
    found.values(found.untrained, "out_of_domain", "accuracy"), expected
  )


def test_unfinished_seed_is_named_and_left_out_of_the_endpoint(copy):
  for path in (copy / "seed-1/opd/grpo/eval").glob("*-00060.npz"):
    path.unlink()
  found = read.load(copy, DESIGN)
  line = "Arm opd has no evaluation at the RL endpoint (step 60) for seed 1."
  assert line in found.gaps
  end, other = found.endpoint("opd"), found.endpoint("sft_over")
  assert list(found.per_seed(end, "in_domain", "accuracy")) == [0]
  difference = found.difference(end, other, "in_domain", "accuracy")
  assert list(difference.per_seed) == [0]
  # What is taken together takes the seeds that have all of it.
  both = found.differences(
    [(end, other), (other, found.untrained)], "in_domain", "accuracy"
  )
  assert [list(d.per_seed) for d in both] == [[0], [0]]


def test_runs_widen_what_is_trained_in_each_of_them_only(finished):
  found = read.load(finished, DESIGN)
  trained, base = found.entry("opd"), found.untrained
  for policy, wider in ((trained, True), (base, False), (TEACHER, False)):
    one = found.interval(policy, "in_domain", "accuracy")
    values = found.values(policy, "in_domain", "accuracy")
    over_problems = bootstrap_interval(values, bounds=(0, 1))
    assert (one != over_problems) is wider


@pytest.mark.parametrize(("wanted", "steps"), [(1, (60,)), (9, (20, 40, 60))])
def test_endpoint_never_reaches_back_to_the_entry(copy, wanted, steps):
  synthetic.change_settings(copy, evaluation={"endpoint_evaluations": wanted})
  assert read.load(copy, DESIGN).endpoint_steps == steps


def test_torn_evaluation_is_named_and_left_out(copy):
  path = copy / "seed-0/opd/grpo/eval/in_domain-00020.npz"
  path.write_bytes(path.read_bytes()[:500])
  found = read.load(copy, DESIGN)
  assert "seed-0/opd/grpo/eval/in_domain-00020.npz cannot" in found.gaps[0]
  point = Point("opd", "grpo", 20)
  assert list(found.per_seed(point, "in_domain", "accuracy")) == [1]


def test_seeds_on_other_problems_are_refused(copy, tmp_path):
  other = synthetic.write(tmp_path / "other", seeds=1, problems=50)
  shutil.rmtree(copy / "seed-1")
  shutil.copytree(other / "seed-0", copy / "seed-1")
  with pytest.raises(ValueError, match="got 50 problems, expected 120"):
    read.load(copy, DESIGN)
