"""The rules of the study: what they say of made-up studies, how they err."""

import dataclasses

import numpy as np
import pytest

from experiments.cw_dpo import config
from experiments.cw_dpo.claims import CLAIMS
from experiments.cw_dpo.design import ARMS, DESIGN, MAIN, STAGE1
from jaxvlm.study import claims, power
from jaxvlm.study.config import Scale
from jaxvlm.study.design import Point
from jaxvlm.study.results import Results
from jaxvlm.study.verdicts import Verdict

SIZES = {"validation": 120, "probes": 24}
FIRST, SECOND = 100, 80


def made(seeds, value, arms=tuple(ARMS)):
  """Results whose scores are value(point, metric) with some noise."""
  rng = np.random.default_rng(0)
  metrics = {"validation": ("exact", "entropy"), "probes": ()}
  metrics["probes"] = tuple(
    {c.metric for c in CLAIMS if c.problem_set == "probes"}
  )
  points = [
    *(Point(arm, "stage1", FIRST) for arm in STAGE1),
    *(Point(arm, "stage2", step) for arm in arms for step in (0, SECOND)),
  ]
  scores = {
    name: {
      point: {
        seed: {
          metric: value(point, metric) + 0.01 * rng.normal(size=size)
          for metric in metrics[name]
        }
        for seed in range(seeds)
      }
      for point in points
    }
    for name, size in SIZES.items()
  }
  settings = {"stage2": {"steps": SECOND}, "evaluation": {"samples": 4}}
  return Results(DESIGN, tuple(range(seeds)), scores, settings)


def as_in_the_paper(point, metric):
  """What the paper says, roughly."""
  cooled = "cw_dpo" in point.arm or point.arm not in MAIN
  ended = point.stage == "stage2" and point.step
  if metric == "entropy":
    return 0.6 if point.arm == "sft_c" else 0.3
  if metric == "exact":
    if point.arm == "constant":
      return 0.48
    return 0.5 + (0.04 if ended and cooled else 0.0)
  if metric.startswith("shift"):
    return (0.5 if cooled else -2.0) if ended else 0.0
  return (0.15 if cooled else 0.45) if ended else 0.0


def test_the_papers_own_findings_are_reproduced_and_equal_policies_are_not():
  found = claims.findings(made(5, as_in_the_paper), CLAIMS)
  assert {f.claim.id: f.verdict for f in found} == {
    claim.id: Verdict.REPRODUCED for claim in CLAIMS
  }
  nothing = claims.findings(made(5, lambda point, metric: 0.3), CLAIMS)
  for finding in nothing:
    expected = (
      Verdict.NOT_REPRODUCED
      if finding.claim.claims_difference
      else Verdict.REPRODUCED
    )
    assert finding.verdict is expected, finding.claim.id


def test_arms_that_were_not_run_leave_claims_undecided():
  arms = ("sft_c_dpo", "sft_c_cw_dpo")
  found = {
    f.claim.id: f.verdict
    for f in claims.findings(made(2, as_in_the_paper, arms), CLAIMS)
  }
  assert found["B3"] is Verdict.REPRODUCED
  for lacking in ("B11", "B12", "B13"):
    assert found[lacking] is Verdict.NOT_MEASURED


def test_rules_of_five_seeds_seldom_err():
  """At most 5 % false verdicts; what power lacks stands in the README."""
  results = made(5, as_in_the_paper)
  rates = power.error_rates(results, CLAIMS, studies=100)
  assert len(rates) == len(CLAIMS)
  for rate in rates:
    wrong_if_equal = (
      Verdict.REPRODUCED
      if rate.claim.claims_difference
      else Verdict.NOT_REPRODUCED
    )
    print(rate.claim.id, rate.equal, rate.paper)
    assert rate.equal[wrong_if_equal] <= 0.05, rate.claim.id
    assert rate.paper[Verdict.NOT_REPRODUCED] <= 0.05, rate.claim.id


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"dataset": config.Dataset.COCO}, "data_dir is empty"),
    ({"arms": ("none",)}, "arms"),
    ({"rates": config.RatesConfig(dpo=0.0)}, "rates.dpo is 0.0"),
    ({"probes": config.ProbeConfig(problems=3)}, "probes.problems is 3"),
  ],
)
def test_settings_that_cannot_run_are_named(changes, message):
  settings = dataclasses.replace(config.laptop(), **changes)
  with pytest.raises(ValueError, match=message):
    config.check(settings)


def test_scales_are_usable_and_every_arm_has_settings(tmp_path):
  for scale in (Scale.LAPTOP, Scale.COLAB):
    settings = config.SCALES[scale]()
    config.check(settings)
    config.check(config.quick(settings))
  pod = dataclasses.replace(config.pod(), data_dir=str(tmp_path))
  config.check(pod)
  # λ of a hard constraint belongs to a whole batch, and the pod's are cut.
  with pytest.raises(ValueError, match="micro_batches is 2, expected 1"):
    config.check(dataclasses.replace(pod, arms=("hard",)))
  for arm in ARMS.values():
    assert config.laptop().second(arm).steps == config.laptop().stage2.steps
