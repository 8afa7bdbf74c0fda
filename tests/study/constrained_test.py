"""What a step under a hard constraint is given: pairs, and λ of dual ascent."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.data.rows import HostBatch, Row
from jaxvlm.study import inputs
from jaxvlm.typing import Batch

FLOOR, RATE = 2.0, 0.5


def test_the_multiplier_climbs_from_step_to_step_and_is_carried():
  mask = np.ones((2, 2, 3), bool)
  mask[0, 1, 2:] = False  # five tokens of negatives
  rows = tuple(Row(str(i), "?", "a", responses=("a", "b")) for i in range(2))
  host = HostBatch(Batch(None, np.zeros((2, 2, 3), np.int32), mask), rows)
  lab = types.SimpleNamespace(stream=lambda source, start: iter([host] * 3))
  seen = []

  def score(params, negatives):
    seen.append(negatives.mask)
    return types.SimpleNamespace(
      logprobs=jnp.where(negatives.mask, -params, jnp.nan)
    )

  give = inputs.constrained(lab, None, score, floor=FLOOR, rate=RATE)(0)
  carry, expected = np.float32(0), 0.0
  for step, nll in enumerate((1.0, 0.5, 9.0)):
    data, carry, logged = give(step, nll, carry)
    expected = max(0.0, expected + RATE * (FLOOR - nll))
    assert float(data.multiplier) == pytest.approx(expected)
    assert float(carry) == pytest.approx(expected)
    assert data.batch is host.batch
    assert logged["batch/tokens"] == mask.sum()
  assert expected == 0.0  # far beyond the floor nothing pushes
  np.testing.assert_array_equal(seen[0], mask[:, 1:])
