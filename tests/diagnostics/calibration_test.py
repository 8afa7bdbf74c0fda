"""Calibration against a loop in float64."""

import jax
import numpy as np
import pytest

from jaxvlm.diagnostics import calibration


def oracle(confidences, correct, mask, bins):
  """ECE by its definition, one prediction at a time."""
  kept = [(c, r) for c, r, m in zip(confidences, correct, mask) if m]  # noqa: B905
  total = 0.0
  for k in range(bins):
    low, high = k / bins, (k + 1) / bins
    inside = [(c, r) for c, r in kept if low < c <= high or (c == 0 == k)]
    if inside:
      sure, right = (sum(x) / len(inside) for x in zip(*inside, strict=True))
      total += len(inside) / len(kept) * abs(right - sure)
  return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_error_is_the_oracles(bins):
  rng = np.random.default_rng(bins)
  confidences = rng.random(400).astype(np.float32)
  correct = rng.random(400) < confidences**2
  mask = rng.random(400) < 0.7
  junk = np.where(mask, confidences, np.nan)
  found = calibration.reliability(junk, correct, mask, bins=bins)
  expected = oracle(confidences.astype(float), correct, mask, bins)
  assert float(found.error) == pytest.approx(expected, abs=1e-6)
  assert float(found.count.sum()) == mask.sum()


def test_parts_add_up_and_ends_are_in_a_bin():
  rng = np.random.default_rng(0)
  x = rng.choice([0.0, 0.5, 1.0], 60).astype(np.float32)
  right, mask = rng.random(60) < 0.5, np.ones(60, bool)
  whole = calibration.reliability(x, right, mask)
  parts = [
    calibration.reliability(x[i::2], right[i::2], mask[i::2]) for i in range(2)
  ]
  jax.tree.map(np.testing.assert_array_equal, whole, parts[0] + parts[1])
  assert float(whole.count.sum()) == 60


def test_one_that_knows_itself_has_no_error_and_an_empty_one_is_zero():
  sure = np.full(8, 0.25, np.float32)
  right = np.arange(8) % 4 == 0
  mask = np.ones(8, bool)
  assert float(calibration.reliability(sure, right, mask).error) == 0
  assert float(calibration.reliability(sure, right, ~mask).error) == 0


def test_bad_input_is_named():
  x = np.ones(3, np.float32)
  with pytest.raises(ValueError, match="correct: got shape"):
    calibration.reliability(x, np.ones(2, bool), np.ones(3, bool))
  with pytest.raises(ValueError, match="bins is 0"):
    calibration.reliability(x, np.ones(3, bool), np.ones(3, bool), bins=0)
