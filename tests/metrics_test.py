"""Metrics of parts join to the metric of the whole."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvlm import metrics

VALUES = st.lists(
  st.tuples(st.floats(0, 100, width=32), st.booleans()), max_size=6
)


@given(parts=st.lists(VALUES, min_size=1, max_size=4))
@settings(deadline=None, max_examples=50)
def test_parts_join_to_the_whole(parts):
  joined = {"mean": metrics.scalar(0.0)._replace(weight=jnp.zeros(()))}
  for part in parts:
    x = jnp.array([value for value, _ in part], jnp.float32)
    mask = jnp.array([kept for _, kept in part], bool)
    joined = metrics.add(
      joined,
      {
        "mean": metrics.masked_mean(x, mask),
        "max": metrics.masked_max(x, mask),
      },
    )
  kept = [value for part in parts for value, counts in part if counts]
  found = metrics.values(joined)
  expected = np.mean(kept) if kept else 0
  assert found["mean"] == pytest.approx(expected, rel=1e-5)
  assert found["max"] == max(kept, default=0)


def test_nan_behind_the_mask_is_harmless_and_before_it_is_not():
  x = jnp.array([1.0, jnp.nan, 3.0])
  behind = jnp.array([True, False, False])
  assert metrics.masked_mean(x, behind).value() == 1
  assert metrics.masked_max(x, behind).value() == 1
  before = metrics.masked_max(x, ~behind)
  other = metrics.masked_max(x, behind)
  for joined in (before + other, other + before):
    assert jnp.isnan(joined.value())


def test_what_only_one_part_has_is_kept():
  a = {"a": metrics.scalar(1.0), "both": metrics.scalar(2.0)}
  b = {"b": metrics.scalar(3.0), "both": metrics.scalar(4.0)}
  assert metrics.values(metrics.add(a, b)) == {"a": 1, "b": 3, "both": 3}
