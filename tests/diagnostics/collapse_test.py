"""The entropy that foretells a collapse, learned from a ladder of runs."""

import numpy as np
import pytest

from jaxvlm.diagnostics import calibrate, confusion
from jaxvlm.diagnostics.collapse import ENTROPY_THRESHOLD


def test_the_published_ladder():
  """arXiv 2606.18487, tables 1 and 2: Qwen's all fell, DeepSeek's none."""
  entropies = [0.227, 0.163, 0.156, 0.171, 0.120, 0.399, 0.274, 0.285, 0.185]
  fell = [True] * 5 + [False] * 4
  found = calibrate(entropies, fell, replicates=200)
  # 0.227 is above 0.185: no threshold is without fault.
  assert found.threshold == pytest.approx((0.171 + 0.185) / 2)
  assert found.threshold == pytest.approx(ENTROPY_THRESHOLD, abs=0.005)
  assert found.confusion == (4, 1, 4, 0)
  assert found.low <= found.threshold <= found.high
  # The paper's own threshold says the same of these.
  assert confusion(np.array(entropies) < 0.18, fell) == found.confusion


def test_by_brute_force():
  rng = np.random.default_rng(3)
  for _ in range(30):
    entropies = rng.normal(0.2, 0.05, 8).round(2)
    fell = rng.random(8) < 1 / (1 + np.exp((entropies - 0.2) * 60))
    if fell.all() or not fell.any() or np.ptp(entropies) == 0:
      continue
    found = calibrate(entropies, fell, replicates=5)

    def balanced(threshold, entropies=entropies, fell=fell):
      flags = entropies < threshold
      return flags[fell].mean() + (~flags)[~fell].mean()

    best = max(balanced(t) for t in np.arange(0.0, 0.5, 0.0025))
    assert balanced(found.threshold) == pytest.approx(best)


def test_a_left_out_run_is_judged_by_the_others():
  found = calibrate(
    [0.1, 0.11, 0.12, 0.3, 0.31, 0.32], [True] * 3 + [False] * 3
  )
  assert found.left_out == found.confusion == (3, 0, 3, 0)
  # The only run that fell cannot be foretold by runs that did not.
  alone = calibrate([0.1, 0.3, 0.4], [True, False, False], replicates=5)
  assert alone.left_out.missed == 1


@pytest.mark.parametrize(
  ("entropies", "fell", "said"),
  [
    ([0.2, 0.2, 0.2], [True, False, True], "all 3 are 0.2 nats"),
    ([0.1, 0.2], [True, False], "at least three"),
    ([0.1, 0.2, 0.3], [True] * 3, "every run collapsed"),
    ([0.1, 0.2, 0.3], [False] * 3, "no run collapsed"),
    ([0.1, 0.2, np.nan], [False, True, True], "three finite"),
    ([0.1, 0.2, 0.3], [True], "one of each run"),
  ],
)
def test_ladders_that_tell_nothing(entropies, fell, said):
  with pytest.raises(ValueError, match=said):
    calibrate(entropies, fell)
