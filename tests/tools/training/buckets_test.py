"""Buckets found from rows hold them all, and are worth their program."""

import itertools

import numpy as np
import pytest

from jaxvlm.data.rows import Bucket, check_buckets
from jaxvlm.tools.training import buckets
from jaxvlm.tools.training.buckets import Need


def needs(*sizes):
  return [Need(prompt, slots, ()) for prompt, slots in sizes]


def area(rows, chosen):
  return sum(sum(chosen[buckets.place_of(n, chosen)]) for n in rows)


def test_rows_alike_take_one_bucket():
  assert buckets.choose(needs(*[(50, 64)] * 20, (52, 64)), 4) == (
    Bucket(56, 64),
  )


def test_long_prompts_and_large_pictures_have_buckets_of_their_own():
  rows = needs(*[(40, 0)] * 50, *[(80, 256)] * 50, *[(1200, 4096)] * 10)
  assert buckets.choose(rows, 4) == (
    Bucket(40, 0),
    Bucket(80, 256),
    Bucket(1200, 4096),
  )


def test_a_group_that_is_too_small_has_no_bucket():
  rows = needs(*[(40, 0)] * 50, *[(800, 0)] * 3)
  assert buckets.choose(rows, 4) == (Bucket(800, 0),)
  assert len(buckets.choose(rows, 3)) == 2


@pytest.mark.parametrize("seed", range(6))
def test_every_row_fits_and_no_choice_of_two_is_cheaper(seed):
  rng = np.random.default_rng(seed)
  rows = needs(
    *zip(
      rng.integers(8, 300, 40).tolist(),
      rng.choice([0, 16, 64, 400], 40).tolist(),
      strict=True,
    )
  )
  chosen = buckets.choose(rows, 1, most=2)
  check_buckets(chosen)
  assert all(buckets.place_of(n, chosen) is not None for n in rows)
  # By trying every corner as the smaller bucket.
  sides = ({-(-n.prompt // 8) * 8 for n in rows}, {n.slots for n in rows})
  corners = itertools.product(*sides)
  largest = Bucket(-(-max(n.prompt for n in rows) // 8) * 8, 400)
  best = min(area(rows, [Bucket(*c), largest]) for c in corners)
  worth = min(0.9 * area(rows, [largest]), best)
  found = area(rows, chosen) * 0.9 ** (2 - len(chosen))
  # Rows are cut in one of two orders, not at any corner.
  assert worth <= found * (1 + 1e-9) and found <= 1.1 * worth


def test_padding_is_what_batches_hold_beyond_the_rows():
  rows = [Need(10, 4, (3, 5)), Need(20, 16, (8, 8))]
  share = buckets.padding(rows, [Bucket(16, 4), Bucket(24, 16)], 8)
  assert share.prompt == pytest.approx(1 - 30 / 40)
  assert share.slots == 0
  assert share.replies == pytest.approx(1 - 24 / 32)


def test_without_pictures_and_responses_nothing_is_padded_of_them():
  share = buckets.padding(needs((8, 0)), [Bucket(8, 0)], 8)
  assert share == (0, 0, 0)
