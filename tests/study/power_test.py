"""Each rule on simulated studies whose truth is known."""

import numpy as np
import pytest

from experiments.stage1_entropy.claims import CLAIMS
from experiments.stage1_entropy.design import DESIGN, TEACHER
from jaxvlm.study import power
from jaxvlm.study.design import Point
from jaxvlm.study.results import Results
from jaxvlm.study.verdicts import Verdict

# The shipped study: problems, samples.
SIZES = {"in_domain": 210, "out_of_domain": 90}


def _study(seeds, monkeypatch):
  """A study of which only the sizes matter."""
  points = [
    TEACHER,
    *(Point("opd", "stage1", step) for step in (40, 120)),
    *(Point(arm, "grpo", step) for arm in DESIGN.arms for step in (0, 60)),
  ]
  scores = {}
  for name, size in SIZES.items():
    of = {"accuracy": np.zeros(size), "entropy": np.full(size, 0.1)}
    scores[name] = {p: dict.fromkeys(range(seeds), of) for p in points}
  monkeypatch.setattr(Results, "top_k", 16)
  settings = {"grpo": {"steps": 60}}
  return Results(DESIGN, tuple(range(seeds)), scores, settings)


@pytest.mark.parametrize(("seeds", "scatter"), [(1, 0.0), (3, 1.0), (5, 1.0)])
def test_no_rule_errs_in_more_than_a_tenth_of_studies(
  seeds, scatter, monkeypatch
):
  found = power.error_rates(
    _study(seeds, monkeypatch), CLAIMS, run_scatter=scatter, studies=100
  )
  assert len(found) == 10
  for rates in found:
    assert sum(rates.equal.values()) == pytest.approx(1)
    wrong_if_equal = (
      Verdict.REPRODUCED
      if rates.claim.claims_difference
      else Verdict.NOT_REPRODUCED
    )
    errors = {
      "equal": rates.equal[wrong_if_equal],
      "paper": rates.paper[Verdict.NOT_REPRODUCED],
    }
    assert max(errors.values()) <= 0.1, (rates.claim.id, errors)


def test_one_seed_takes_chance_between_runs_for_an_effect(monkeypatch):
  # Why a verdict of one seed is marked, and the table printed beneath it.
  found = power.error_rates(_study(1, monkeypatch), CLAIMS, studies=100)
  c4 = next(rates for rates in found if rates.claim.id == "C4")
  assert c4.equal[Verdict.NOT_REPRODUCED] > 0.2


def test_simulated_rates_have_the_mean_that_was_asked_for():
  rng = np.random.default_rng(0)
  offsets, runs = np.array([0.0, -9.5, 10.0]), np.ones(3)
  rates = power._rates(16, 0.5, rng, offsets, runs, (40, 200, 3))
  np.testing.assert_allclose(
    rates.mean((0, 2, 3)), [0.5, 0.405, 0.6], atol=0.015
  )
  entropies = power._entropies(1, 0, rng, offsets / 100, runs, (40, 200, 3))
  np.testing.assert_allclose(
    entropies.mean((0, 2, 3)), 0.12 * (1 + offsets / 100), rtol=0.02
  )
  changes = power._changes(1, 0, rng, offsets, runs, (40, 200, 3))
  np.testing.assert_allclose(changes.mean((0, 2, 3)), offsets, atol=0.2)
