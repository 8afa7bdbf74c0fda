"""Verdicts on checkpoints: what the numbers are, what is said of them."""

import numpy as np
import pytest

from jaxvlm.diagnostics import (
  bootstrap_interval,
  degenerate_probability,
  pass_at_k,
)
from jaxvlm.diagnostics.readiness import Advice, judge, rank

P, N = 60, 16


def found(
  rate,
  entropy=0.5,
  prompt=None,
  spread=0.01,
  name="a",
  seed=0,
  p=P,
  threshold=0.18,
  **more,
):
  rng = np.random.default_rng(seed)
  rewards = rng.random((p, N)) < np.broadcast_to(rate, (p,))[:, None]
  around = spread * np.linspace(-1, 1, p)  # of mean 0
  return judge(
    name,
    rewards.astype(float),
    entropy + around,
    [["x", "y"] * (N // 2)] * p,
    prompt_entropies=None if prompt is None else prompt + around,
    threshold=threshold,
    **more,
  )


def test_numbers():
  one = found(0.4, prompt=0.3)
  assert one.advice is Advice.READY and one.samples == N
  assert one.entropy.mean == pytest.approx(0.3, abs=0.01)
  assert one.completion_entropy.mean == pytest.approx(0.5, abs=0.01)
  counts = np.round(one.headroom.rates * N).astype(int)
  assert one.pass_at[8] == bootstrap_interval(
    pass_at_k(N, counts, 8), bounds=(0, 1)
  )
  assert set(one.pass_at) == {1, 2, 4, 8, 10, 16}
  assert one.distinct.mean == 2 and one.mode == 0.5
  assert one.headroom.useful.mean == pytest.approx(
    1 - degenerate_probability(0.4, 8), abs=0.03
  )
  assert "above 0.18" in one.reasons[2] and "prompt tokens" in one.reasons[2]
  assert [r for r in one.reasons if "calibrate it on runs of your own" in r]


@pytest.mark.parametrize(
  "rate,entropy,advice",
  [
    (0.4, 0.5, Advice.READY),
    (0.4, 0.1, Advice.RISKY),
    (0.01, 0.5, Advice.STARVED),
    (0.01, 0.1, Advice.STARVED),
    (0.99, 0.1, Advice.SATURATED),
    (0.4, 0.18, Advice.UNSURE),
    (0.084, 0.5, Advice.UNSURE),
  ],
)
def test_verdicts(rate, entropy, advice):
  assert found(rate, entropy).advice is advice


def test_prompts_that_differ_are_told():
  one = found(np.repeat([0.0, 1.0], P // 2))
  assert one.advice is Advice.STARVED
  assert "the mean pass rate alone would promise 99%" in " ".join(one.reasons)
  assert not [r for r in found(0.4).reasons if "mean pass rate" in r]


def test_the_prompt_is_judged_where_it_is_measured():
  assert found(0.4, entropy=0.1, prompt=0.3).advice is Advice.READY
  assert found(0.4, entropy=0.3, prompt=0.1).advice is Advice.RISKY


def test_ranks_are_not_those_of_the_score():
  """The paper's inversion: the best pass@1 comes from the lowest entropy."""
  ladder = [
    found(rate, entropy, name=name)
    for name, rate, entropy in (
      ("deep", 0.5, 0.1), ("middle", 0.35, 0.18), ("shallow", 0.3, 0.3),
      ("none", 0.005, 0.9), ("wide", 0.45, 0.3),
    )
  ]  # fmt: skip
  order = [one.name for one in rank(ladder)]
  assert order == ["wide", "shallow", "middle", "deep", "none"]


def test_a_threshold_of_ones_own_is_not_explained():
  one = found(0.4, 0.35, threshold=0.4)
  assert one.advice is Advice.RISKY and one.threshold == 0.4
  assert not [r for r in one.reasons if "calibrate" in r]


def test_fewer_samples_than_a_group():
  with pytest.raises(ValueError, match="16 samples a prompt.*groups of 32"):
    found(0.4, g=32)
