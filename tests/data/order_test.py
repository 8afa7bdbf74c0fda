"""The order of data: every row once, and a function of (seed, step) alone."""

import collections
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvlm.data import order as orders
from jaxvlm.data.order import Plan

plans = st.builds(
  Plan,
  buckets=st.lists(st.integers(0, 3), min_size=1, max_size=60).map(tuple),
  batch_size=st.integers(1, 9),
  seed=st.integers(0, 5),
)


def epoch_of(plan: Plan, epoch: int) -> list[tuple[np.ndarray, int]]:
  steps = plan.steps_per_epoch
  return [plan.batch(epoch * steps + i) for i in range(steps)]


@given(plans)
@settings(deadline=None, max_examples=150)
def test_every_row_once_per_epoch_but_for_the_completion(plan):
  count = len(plan.buckets)
  steps = -(-count // plan.batch_size)
  assert plan.steps_per_epoch == steps  # not one batch more than needed
  for epoch in (0, 1):
    batches = epoch_of(plan, epoch)
    assert {rows.shape for rows, _ in batches} == {(plan.batch_size,)}
    used = collections.Counter(int(r) for rows, _ in batches for r in rows)
    assert set(used) == set(range(count))
    # Only what completes the last batch of the largest bucket comes again.
    again = sum(used.values()) - count
    assert again == steps * plan.batch_size - count < plan.batch_size
    if count >= plan.batch_size:  # and no row twice in a batch
      assert all(len(set(rows)) == plan.batch_size for rows, _ in batches)


@given(plans)
@settings(deadline=None, max_examples=100)
def test_rows_fit_their_bucket_and_few_move_up(plan):
  moved = 0
  for rows, bucket in epoch_of(plan, 0):
    own = [plan.buckets[row] for row in rows]
    assert max(own) <= bucket and bucket in plan.buckets
    moved += len({row for row in rows if plan.buckets[row] < bucket})
  # Less than a batch leaves every bucket, or completes the last batch.
  assert moved <= (plan.batch_size - 1) * len(set(plan.buckets))


@given(plans, st.lists(st.integers(0, 200), min_size=1, max_size=10))
@settings(deadline=None, max_examples=100)
def test_order_of_asking_does_not_matter(plan, steps):
  def asked(order):
    orders._epoch.cache_clear()
    again = Plan(plan.buckets, plan.batch_size, plan.seed)
    return {
      s: (*map(np.array, again.batch(s)), again.spare(s, 1)) for s in order
    }

  forward, backward = asked(sorted(steps)), asked(sorted(steps, reverse=True))
  for step, (rows, bucket, spare) in forward.items():
    np.testing.assert_array_equal(rows, backward[step][0])
    assert (bucket, spare) == backward[step][1:]


def test_a_fresh_process_gives_the_same_order():
  program = """
from jaxvlm.data.order import Plan
plan = Plan((0, 1, 1, 0, 2) * 7, 4, 11)
print([plan.batch(s)[0].tolist() for s in (0, 9, 40)], plan.spare(9, 2))
"""
  outputs = {
    subprocess.run(
      [sys.executable, "-c", program],
      check=True,
      capture_output=True,
      env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
    ).stdout
    for seed in (1, 2)
  }
  plan = Plan((0, 1, 1, 0, 2) * 7, 4, 11)
  here = [plan.batch(s)[0].tolist() for s in (0, 9, 40)], plan.spare(9, 2)
  assert outputs == {f"{here[0]} {here[1]}\n".encode()}


def test_seeds_and_epochs_shuffle_differently():
  buckets = (0,) * 40
  orders = {
    tuple(np.concatenate([rows for rows, _ in epoch_of(plan, epoch)]))
    for plan in (Plan(buckets, 8, seed) for seed in range(4))
    for epoch in range(3)
  }
  assert len(orders) == 12
  # Buckets do not come in order either.
  mixed = [b for _, b in epoch_of(Plan((0,) * 80 + (1,) * 80, 8, 0), 0)]
  assert mixed != sorted(mixed)


def test_a_batch_larger_than_the_data_set_repeats_all_rows_evenly():
  plan = Plan((0, 1, 0), 8, 3)
  assert plan.steps_per_epoch == 1
  rows, bucket = plan.batch(5)
  assert bucket == 1
  counts = collections.Counter(rows.tolist())
  assert set(counts) == {0, 1, 2} and set(counts.values()) == {2, 3}


@given(plans, st.integers(0, 50))
@settings(deadline=None, max_examples=100)
def test_spares_fit_the_bucket(plan, step):
  _, bucket = plan.batch(step)
  spares = [plan.spare(step, number) for number in range(8)]
  assert all(plan.buckets[spare] <= bucket for spare in spares)
  assert spares == [plan.spare(step, number) for number in range(8)]


def test_spares_differ_by_step_number_and_seed():
  plan = Plan((0,) * 1000, 4, 0)
  draws = [plan.spare(step, number) for step in range(5) for number in range(5)]
  assert len(set(draws)) > 20
  assert draws[:5] != [Plan((0,) * 1000, 4, 1).spare(0, n) for n in range(5)]


@pytest.mark.parametrize(("buckets", "size"), [((), 4), ((0,), 0), ((0,), -1)])
def test_plans_without_rows_or_batch_are_refused(buckets, size):
  with pytest.raises(ValueError, match="at least one row and a positive batch"):
    Plan(buckets, size, 0)
