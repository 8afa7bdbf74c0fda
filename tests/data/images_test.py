"""Pictures: the processor's numbers, and what may be fed to it."""

import io
import json
import pathlib
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxvlm.data import images, layout
from jaxvlm.data.images import PixelBudget

SHARED = pathlib.Path(__file__).parents[3] / "shared/data"
QWEN = layout.VisionLayout()
needs_golden = pytest.mark.skipif(
  not (SHARED / "golden/preprocess.json").is_file(),
  reason="shared data absent: ../shared/data/golden/preprocess.json",
)


def golden() -> dict:
  return json.loads((SHARED / "golden/preprocess.json").read_text())


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **how) -> bytes:
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  stream = io.BytesIO()
  image.save(stream, kind, **how)
  return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
  """Returns a small PNG that claims a size and holds next to no pixels."""

  def chunk(name: bytes, body: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + crc

  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(bytes(1000)))
    + chunk(b"IEND", b"")
  )


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
  x, grid = images.patchify(
    small, images.load(array), PixelBudget(8 * 12, 8 * 12)
  )
  assert grid == (1, 6, 4) and x.shape == (24, 24) and x.dtype == np.float32
  number = 0
  for row, col in np.ndindex(3, 2):
    for sub_row, sub_col in np.ndindex(2, 2):
      top, left = 2 * (2 * row + sub_row), 2 * (2 * col + sub_col)
      tile = array[top : top + 2, left : left + 2].astype(np.float64) / 255
      tile = (tile - images._MEAN) / images._STD
      frames = x[number].reshape(3, 2, 2, 2)
      for frame in (0, 1):  # a still picture is repeated
        np.testing.assert_allclose(
          frames[:, frame], tile.transpose(2, 0, 1), atol=1e-6
        )
      number += 1


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK"])
def test_every_color_mode_becomes_rgb_as_in_pillow(mode):
  picture = Image.fromarray(noise(30, 20)).convert(mode)
  data = encoded(picture, "JPEG" if mode == "CMYK" else "PNG")
  got = images.load(data)
  assert got.mode == "RGB" and images.size_of(data) == got.size == (30, 20)
  with Image.open(io.BytesIO(data)) as stored:
    assert stored.mode == mode
    np.testing.assert_array_equal(got, stored.convert("RGB"))


def test_16_bit_gray_keeps_its_shades():
  shades = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
  got = np.asarray(images.load(encoded(Image.fromarray(shades))))
  # Pillow's own conversion clips at 255: everything but black turns white.
  np.testing.assert_array_equal(got, np.repeat(shades[..., None] >> 8, 3, -1))


def test_exif_orientation_is_not_applied():
  exif = Image.Exif()
  exif[0x0112] = 6  # rotate by 90 degrees to display
  data = encoded(noise(40, 20), "JPEG", exif=exif)
  plain = encoded(noise(40, 20), "JPEG")
  assert images.size_of(data) == images.load(data).size == (40, 20)
  np.testing.assert_array_equal(images.load(data), images.load(plain))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_used(kind):
  first, second = (Image.fromarray(noise(16, 16, seed)) for seed in (1, 2))
  how = {"save_all": True, "append_images": [second], "duration": 50}
  if kind == "WEBP":
    how["lossless"] = True
  data = encoded(first, kind, **how)
  np.testing.assert_array_equal(images.load(data), first)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "PPM", "ICO"])
def test_other_formats_are_refused_whatever_the_name(tmp_path, kind):
  file = tmp_path / "picture.png"
  file.write_bytes(encoded(noise(32, 32), kind))
  for read in (images.size_of, images.load):
    with pytest.raises(ValueError, match=r"picture\.png .*PNG, JPEG, WEBP"):
      read(file)


def test_a_wrong_extension_does_not_matter(tmp_path):
  file = tmp_path / "picture.jpg"
  file.write_bytes(encoded(noise(9, 8)))
  np.testing.assert_array_equal(images.load(str(file)), noise(9, 8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("part", [0, 1, 10, 30, 0.5, 0.9])
def test_a_truncated_picture_is_refused(tmp_path, kind, part):
  data = encoded(noise(64, 64), kind)
  size = part if isinstance(part, int) else int(len(data) * part)
  file = tmp_path / "cut"
  file.write_bytes(data[:size])
  for source, name in ((file, "cut"), (data[:size], "in memory")):
    with pytest.raises(ValueError, match=name) as caught:
      images.load(source)
    assert "0x" not in str(caught.value)  # no memory address: reasons repeat


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_give_a_picture_or_a_value_error(seed):
  rng = np.random.default_rng(seed)
  kind = ("PNG", "JPEG", "WEBP")[seed % 3]
  data = bytearray(encoded(noise(24, 24, seed), kind))
  for at in rng.integers(0, len(data), 1 + seed % 8):
    data[at] = rng.integers(256)
  try:
    assert images.load(bytes(data)).mode == "RGB"
  except ValueError as e:
    assert "picture in memory" in str(e)


def test_a_missing_picture_is_named(tmp_path):
  for read in (images.size_of, images.load):
    with pytest.raises(FileNotFoundError, match=r"gone\.png does not exist"):
      read(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="cannot be read"):
      read(tmp_path)  # a folder
    with pytest.raises(ValueError, match="cannot be read"):
      read("a\0b.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_000, 13_000, 20_000])
def test_a_bomb_is_refused_before_it_is_decoded(side):
  data = png_header(side, side)
  assert len(data) < 10_000
  started = time.monotonic()
  for read in (images.size_of, images.load):
    with pytest.raises(ValueError, match="pixels"):
      read(data)
  # Decoding 81 million pixels takes longer, and fails with other words.
  assert time.monotonic() - started < 0.5


@pytest.mark.parametrize(
  "array",
  [
    np.zeros((4, 4), np.uint8),
    np.zeros((4, 4, 4), np.uint8),
    np.zeros((4, 4, 3), np.float32),
  ],
)
def test_arrays_must_be_8_bit_rgb(array):
  with pytest.raises(ValueError, match=r"expected\s+uint8 \[H, W, 3\]"):
    images.load(array)
  assert images.load(np.zeros((4, 5, 3), np.uint8)).size == (5, 4)
  assert images.size_of(np.zeros((4, 5, 3), np.uint8)) == (5, 4)
