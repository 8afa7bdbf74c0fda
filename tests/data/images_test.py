"""Pictures: the processor's sizes and numbers, patch by patch."""

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxvlm.data import images, layout
from jaxvlm.data.images import PixelBudget
from tests.data.pictures import QWEN, noise

SHARED = pathlib.Path(__file__).parents[3] / "shared/data"
needs_golden = pytest.mark.skipif(
  not (SHARED / "golden/preprocess.json").is_file(),
  reason="shared data absent: ../shared/data/golden/preprocess.json",
)


def golden() -> dict:
  return json.loads((SHARED / "golden/preprocess.json").read_text())


@needs_golden
def test_smart_resize_equals_the_72_golden_sizes():
  cases = golden()["smart_resize"]
  assert len(cases) == 72
  for case in cases:
    budget = PixelBudget(case["min_pixels"], case["max_pixels"])
    args = case["height"], case["width"], case["factor"], budget
    if "error" in case:
      with pytest.raises(ValueError, match="aspect ratio of at most 200"):
        images.smart_resize(*args)
    else:
      assert images.smart_resize(*args) == tuple(case["resized"]), case


@given(
  st.integers(1, 4000),
  st.integers(1, 4000),
  st.integers(1, 30).map(lambda n: n * 28 * 28),
)
@settings(deadline=None, max_examples=200)
def test_resized_sides_are_multiples_and_the_area_is_within(h, w, least):
  # A short side of one factor cannot shrink, nor can rounding up be undone:
  # only a thin picture may leave the budget, by less than a row of tokens.
  budget = PixelBudget(least, 4 * least)
  if max(h, w) > 200 * min(h, w):
    with pytest.raises(ValueError, match=f"{w} × {h}"):
      images.smart_resize(h, w, 28, budget)
    return
  rows, cols = images.smart_resize(h, w, 28, budget)
  assert rows % 28 == cols % 28 == 0 and min(rows, cols) > 0
  assert rows * cols >= budget.min_pixels
  if min(rows, cols) > 28:
    assert rows * cols <= budget.max_pixels


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (1, 201), (402, 2)])
def test_sizes_that_cannot_be_resized_are_refused(size):
  with pytest.raises(ValueError, match="both sides positive"):
    images.smart_resize(*size, 28, PixelBudget())
  images.smart_resize(1, 200, 28, PixelBudget())  # the limit itself passes


@needs_golden
def test_pixels_equal_the_golden_ones():
  cases = golden()["images"]
  assert len(cases) == 10
  for case in cases:
    budget = PixelBudget(case["min_pixels"], case["max_pixels"])
    picture = images.load(SHARED / case["file"])
    assert images.size_of(SHARED / case["file"]) == tuple(case["size_wh"])
    assert picture.size == tuple(case["size_wh"])
    x, grid = images.patchify(QWEN, picture, budget)
    assert list(grid) == case["grid_thw"] and list(x.shape) == case["shape"]
    want = case["pil"]
    rows = want["rows"]
    # One 8-bit level is 0.0146 after division by 255 and by the smallest std.
    # JPEG decoders and Pillow's fixed-point bicubic may round a level apart
    # between versions; here both are alike, so only float32 rounding and the
    # six decimals of the file remain.
    np.testing.assert_allclose(
      x[rows, :6], want["first6_of_rows"], atol=2e-6, rtol=0
    )
    np.testing.assert_allclose(
      x[rows, 588:594], want["cols_588_594_of_rows"], atol=2e-6, rtol=0
    )
    np.testing.assert_allclose(
      x.mean(dtype=np.float64), want["mean"], atol=1e-5
    )
    np.testing.assert_allclose(x.std(dtype=np.float64), want["std"], atol=1e-5)
    np.testing.assert_allclose(
      np.abs(x).sum(dtype=np.float64), want["sum_abs"], rtol=1e-5
    )


@pytest.mark.parametrize("seed", range(12))
def test_pixels_equal_those_of_transformers(seed):
  module = pytest.importorskip(
    "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl",
    reason="the processor of transformers needs torch",
    exc_type=ImportError,
  )
  rng = np.random.default_rng(seed)
  width, height = (int(x) for x in rng.integers(4, 300, 2))
  array = noise(width, height, seed)
  least = int(rng.integers(1, 8)) * 28 * 28
  budget = PixelBudget(least, least * int(rng.integers(2, 40)))
  want = module.Qwen2VLImageProcessorPil(
    min_pixels=budget.min_pixels, max_pixels=budget.max_pixels
  )(images=[Image.fromarray(array)], return_tensors="np")
  x, grid = images.patchify(QWEN, images.load(array), budget)
  assert [list(grid)] == want["image_grid_thw"].tolist()
  # The same 8-bit pixels; transformers multiplies by 1 / 255 in float64
  # before it rounds to float32: at most a few units in the last place.
  np.testing.assert_allclose(x, want["pixel_values"], atol=1e-6, rtol=0)


def test_patches_stand_in_reading_order_of_merged_tokens():
  small = layout.VisionLayout(patch=2, merge=2, window=8)
  array = noise(8, 12)
  colors = images.Colors((0.1, 0.5, 0.9), (0.2, 0.3, 0.4))
  x, grid = images.patchify(
    small, images.load(array), PixelBudget(8 * 12, 8 * 12), colors
  )
  assert grid == (1, 6, 4) and x.shape == (24, 24) and x.dtype == np.float32
  number = 0
  for row, col in np.ndindex(3, 2):
    for sub_row, sub_col in np.ndindex(2, 2):
      top, left = 2 * (2 * row + sub_row), 2 * (2 * col + sub_col)
      tile = array[top : top + 2, left : left + 2].astype(np.float64) / 255
      tile = (tile - colors.mean) / colors.std
      frames = x[number].reshape(3, 2, 2, 2)
      for frame in (0, 1):  # a still picture is repeated
        np.testing.assert_allclose(
          frames[:, frame], tile.transpose(2, 0, 1), atol=1e-6
        )
      number += 1


def test_a_line_of_pixels_is_a_picture_up_to_the_aspect_limit():
  x, grid = images.patchify(
    QWEN, images.load(noise(200, 1)), PixelBudget(3136, 25088)
  )
  assert grid == (1, 2, 58) and len(x) == 116
  with pytest.raises(ValueError, match="201 × 1"):
    images.grid_of(QWEN, *images.size_of(noise(201, 1)), PixelBudget())


@pytest.mark.parametrize(
  "window, least, most",
  [
    (56, 1, 6),  # less than a strip of 200 : 1 needs
    (56, 4, 16),
    (112, 4, 16),
    (112, 30, 32),  # growing may exceed the most
    (84, 1, 41.5),
  ],
)
def test_no_shape_of_picture_exceeds_the_largest(window, least, most):
  """Against all sizes, from strips of 1 : 200 to squares, one by one."""
  vision = layout.VisionLayout(patch=2, window=window // 7)
  budget = PixelBudget(int(16 * least), int(16 * most))
  found = tokens = slots = 0
  for height in range(1, 25):
    for width in range(height, min(200 * height, 600) + 1):
      grid = images.grid_of(vision, width, height, budget)
      tokens = max(tokens, layout.image_tokens(vision, grid))
      slots = max(slots, layout.slots(vision, grid))
      found += 1
  room = images.largest(vision, budget)
  assert found > 5_000
  assert room.tokens >= tokens and room.slots >= slots
  # Not by much: a bound that nothing reaches would waste memory.
  assert room.slots == slots and room.tokens <= 1.1 * tokens + 1


def test_the_room_of_published_limits_is_reached():
  vision = layout.VisionLayout()
  for budget in (PixelBudget(262_144, 1_003_520), PixelBudget(3136, 602_112)):
    area = budget.max_pixels // 28**2
    sizes = [(40_000, 200)]  # a strip that is made smaller
    for rows in range(1, 30):  # most of these are kept as they are
      sizes.append((28 * min(area // rows, 200 * rows), 28 * rows))
    grids = [images.grid_of(vision, *size, budget) for size in sizes]
    assert images.largest(vision, budget) == (
      max(layout.image_tokens(vision, grid) for grid in grids),
      max(layout.slots(vision, grid) for grid in grids),
    )
