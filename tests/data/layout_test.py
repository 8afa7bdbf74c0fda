"""The geometry of pictures: windows and M-RoPE ids, for all sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvlm.data import layout

IMAGE = 9
sides = st.integers(1, 12)
layouts = st.builds(
  lambda patch, merge, units: layout.VisionLayout(
    patch=patch, merge=merge, window=patch * merge * units
  ),
  st.integers(1, 14),
  st.integers(1, 3),
  st.integers(1, 4),
)


still = st.just(1)


@st.composite
def pictures(draw, min_size=1, frames=still):
  """Draws (layout, grids) of 1 to 12 merged units a side."""
  geometry = draw(layouts)
  units = draw(
    st.lists(st.tuples(frames, sides, sides), min_size=min_size, max_size=3)
  )
  merge = geometry.merge
  return geometry, [(t, h * merge, w * merge) for t, h, w in units]


def row_of(geometry, grids, gaps) -> np.ndarray:
  """Returns tokens: text gaps[i] before picture i, gaps[-1] at the end."""
  parts = [np.ones(gaps[0], np.int32)]
  for grid, gap in zip(grids, gaps[1:], strict=True):
    count = layout.image_tokens(geometry, grid)
    parts += [np.full(count, IMAGE, np.int32), np.ones(gap, np.int32)]
  return np.concatenate(parts)


@given(pictures(min_size=0, frames=st.integers(1, 3)))
@settings(deadline=None)
def test_source_is_a_permutation_and_slots_add_up(drawn):
  geometry, grids = drawn
  a = layout.arrange(geometry, grids)
  assert len(a.source) == sum(layout.slots(geometry, g) for g in grids)
  assert len(a.source) % geometry.window_slots == 0
  filled = a.source >= 0
  count = sum(int(np.prod(g)) for g in grids)
  np.testing.assert_array_equal(np.sort(a.source[filled]), np.arange(count))
  np.testing.assert_array_equal(a.segments >= 0, filled)
  assert {x.dtype for x in a} == {np.dtype(np.int32)}


@given(pictures(frames=st.integers(1, 2)))
@settings(deadline=None)
def test_every_patch_is_where_its_index_says(drawn):
  geometry, grids = drawn
  a = layout.arrange(geometry, grids)
  merge, want = geometry.merge, []
  frames = [(h, w) for t, h, w in grids for _ in range(t)]
  for segment, (h, w) in enumerate(frames):
    want += [
      (segment, row * merge + i, column * merge + j)
      for row in range(h // merge)
      for column in range(w // merge)
      for i in range(merge)
      for j in range(merge)
    ]
  want = np.array(want)
  filled = np.flatnonzero(a.source >= 0)
  got = np.column_stack([a.segments, a.positions])[filled]
  np.testing.assert_array_equal(got, want[a.source[filled]])


@given(pictures(frames=st.integers(1, 2)))
@settings(deadline=None)
def test_merged_slots_lead_to_the_token_in_reading_order(drawn):
  geometry, grids = drawn
  a = layout.arrange(geometry, grids)
  unit = geometry.merge**2
  tokens = sum(layout.image_tokens(geometry, g) for g in grids)
  assert len(a.merged_slots) == tokens
  found = a.source.reshape(-1, unit)[a.merged_slots]
  np.testing.assert_array_equal(
    found, np.arange(tokens * unit).reshape(tokens, unit)
  )


@given(pictures(frames=st.integers(1, 2)))
@settings(deadline=None, max_examples=60)
def test_windows_are_those_of_the_reference(drawn):
  geometry, grids = drawn
  from tests.reference import hf

  index, edges = hf.window_index(geometry, grids)
  a = layout.arrange(geometry, grids)
  unit = geometry.merge**2
  windows = a.source.reshape(-1, geometry.window_slots)
  ours = [window[window >= 0] for window in windows]
  patches = (index[:, None] * unit + np.arange(unit)).reshape(-1)
  want = np.split(patches, edges[1:-1])
  assert len(ours) == len(want)
  for x, y in zip(ours, want, strict=True):
    np.testing.assert_array_equal(x, y)


@given(
  pictures(min_size=0),
  st.lists(st.integers(1, 4), min_size=4, max_size=4),
  st.integers(0, 5),
  st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_mrope_ids_are_those_of_the_reference(drawn, gaps, padding, left):
  geometry, grids = drawn
  from tests.reference import hf

  row = row_of(geometry, grids, gaps[: len(grids) + 1])
  widths = (padding, 0) if left else (0, padding)
  tokens = np.pad(row, widths, constant_values=IMAGE)  # padding is masked
  mask = np.pad(np.ones(len(row), bool), widths)
  got, following = layout.mrope_positions(geometry, tokens, mask, grids, IMAGE)
  want, delta = hf.rope_index(geometry.merge, tokens, mask, grids, IMAGE)
  np.testing.assert_array_equal(got[:, mask], want[:, mask])
  assert following == len(row) + delta
  assert (got[:, ~mask] == 1).all()


def test_mrope_ids_of_a_row_by_hand():
  geometry = layout.VisionLayout()
  tokens = np.array([1, 1] + [IMAGE] * 6 + [1, IMAGE, 1])
  ids, following = layout.mrope_positions(
    geometry, tokens, np.ones(11, bool), [(1, 4, 6), (1, 2, 2)], IMAGE
  )
  np.testing.assert_array_equal(
    ids,
    [
      [0, 1, 2, 2, 2, 2, 2, 2, 5, 6, 7],
      [0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 7],
      [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7],
    ],
  )
  assert following == 8


@pytest.mark.parametrize("image_count", [0, 5, 7])
def test_counts_that_do_not_match_are_refused(image_count):
  tokens = np.array([1] + [IMAGE] * image_count + [1])
  with pytest.raises(
    ValueError,
    match=rf"{image_count} image tokens.*\(1, 4, 6\).*need 6.*expand",
  ):
    layout.mrope_positions(
      layout.VisionLayout(),
      tokens,
      np.ones(len(tokens), bool),
      [(1, 4, 6)],
      IMAGE,
    )


def test_image_tokens_without_pictures_are_refused():
  with pytest.raises(ValueError, match=r"2 image tokens.*0 picture.*need 0"):
    layout.mrope_positions(
      layout.VisionLayout(), np.full(2, IMAGE), np.ones(2, bool), [], IMAGE
    )


def test_interrupted_pictures_are_refused():
  tokens = np.array([1, IMAGE, IMAGE, 1, IMAGE, IMAGE, 1])
  with pytest.raises(ValueError, match=r"\(1, 4, 4\) needs 4 .*token 1 of"):
    layout.mrope_positions(
      layout.VisionLayout(), tokens, np.ones(7, bool), [(1, 4, 4)], IMAGE
    )


@pytest.mark.parametrize("grid", [(1, 3, 4), (1, 4, 5), (0, 4, 4), (1, 0, 2)])
def test_grids_that_do_not_merge_are_refused(grid):
  with pytest.raises(
    ValueError, match=rf"\({grid[0]}, {grid[1]}, {grid[2]}\).*2"
  ):
    layout.arrange(layout.VisionLayout(), [(1, 2, 2), grid])


def test_windows_that_cut_a_merged_token_are_refused():
  with pytest.raises(ValueError, match=r"window is 100 .* 28"):
    layout.VisionLayout(window=100)


def test_dimensions_of_the_published_tower():
  geometry = layout.VisionLayout()
  assert geometry.patch_values == 1176
  assert (geometry.window_units, geometry.window_slots) == (4, 64)
  assert layout.slots(geometry, (1, 10, 16)) == 2 * 2 * 64
  assert layout.image_tokens(geometry, (1, 10, 16)) == 40


def test_no_picture_takes_no_slot():
  a = layout.arrange(layout.VisionLayout(), [])
  assert [x.shape for x in a] == [(0,), (0,), (0, 2), (0,)]
