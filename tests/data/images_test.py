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
from PIL import Image, ImageDraw, ImageFile, ImageOps, PngImagePlugin

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


def chunk(name: bytes, body: bytes) -> bytes:
  crc = struct.pack(">I", zlib.crc32(name + body))
  return struct.pack(">I", len(body)) + name + body + crc


def png_with(data: bytes, name: bytes, body: bytes) -> bytes:
  """Returns a PNG with one more chunk behind its pixels."""
  assert data[-8:-4] == b"IEND"
  return data[:-12] + chunk(name, body) + data[-12:]


def png_header(width: int, height: int) -> bytes:
  """Returns a small PNG that claims a size and holds next to no pixels."""
  size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", size)
    + chunk(b"IDAT", zlib.compress(bytes(1000)))
    + chunk(b"IEND", b"")
  )


def shades() -> np.ndarray:
  """Returns u16[8, 8] from black to white."""
  return np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)


def png(array: np.ndarray, color_type: int, extra=None) -> bytes:
  """Returns u16[H, W, …] as a PNG of 16 bits a channel."""
  size = struct.pack(
    ">IIBBBBB", array.shape[1], array.shape[0], 16, color_type, 0, 0, 0
  )
  lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in array)
  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", size)
    + (chunk(*extra) if extra else b"")
    + chunk(b"IDAT", zlib.compress(lines))
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


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_every_opaque_color_mode_becomes_rgb_as_in_pillow(mode):
  picture = Image.fromarray(noise(30, 20)).convert(mode)
  data = encoded(picture, "JPEG" if mode == "CMYK" else "PNG")
  got = images.load(data)
  assert got.mode == "RGB" and images.size_of(data) == got.size == (30, 20)
  with Image.open(io.BytesIO(data)) as stored:
    assert stored.mode == mode
    np.testing.assert_array_equal(got, stored.convert("RGB"))


# What is transparent, and which way is up.


def by_transformers(data: bytes) -> np.ndarray:
  """Returns a file's colors u8[H, W, 3] as transformers' processor has them.

  Turned as in `load_image`, converted as in `Qwen2VLImageProcessorPil`.
  """
  transforms = pytest.importorskip("transformers.image_transforms")
  upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
  return transforms.convert_to_rgb(upright, return_numpy=True)


def drawing(alpha: int = 255) -> Image.Image:
  """Returns black ink of some strength on nothing, black behind it."""
  picture = Image.new("RGBA", (60, 44), (0, 0, 0, 0))
  pen = ImageDraw.Draw(picture)
  pen.line([(5, 5), (52, 38)], fill=(0, 0, 0, alpha), width=5)
  pen.ellipse([(30, 4), (50, 20)], fill=(200, 10, 30, alpha // 2))
  return picture


def palette_drawing() -> Image.Image:
  """Returns ink of color 1 on color 0, both next to black."""
  picture = Image.new("P", (60, 44), 0)
  picture.putpalette([0, 0, 0, 9, 9, 9, 90, 0, 0] + [255] * 759)
  pen = ImageDraw.Draw(picture)
  pen.line([(5, 5), (52, 38)], fill=1, width=5)
  pen.rectangle([(30, 4), (50, 20)], fill=2)
  return picture


def with_alpha(mode: str) -> Image.Image:
  picture = palette_drawing().convert("RGB").convert(mode[:-1])
  picture.putalpha(drawing().getchannel("A"))
  return picture


def transparent_files() -> dict[str, bytes]:
  """Returns every way in which a file says that something is transparent."""
  ink, palette = drawing(), palette_drawing()
  gray, color = palette.convert("L"), palette.convert("RGB")
  faint = with_alpha("LA")
  faint.putalpha(drawing(100).getchannel("A"))
  return {
    "RGBA": encoded(ink),
    "RGBA half": encoded(drawing(127)),
    "RGBA faint": encoded(drawing(1)),
    "LA": encoded(with_alpha("LA")),
    "LA half": encoded(faint),
    "P index": encoded(palette, transparency=0),
    "P bytes": encoded(palette, transparency=bytes([0, 255, 99])),
    "L key": encoded(gray, transparency=0),
    "RGB key": encoded(color, transparency=(0, 0, 0)),
    "1 key": encoded(gray.point(lambda x: 255 * (x < 5), "1"), transparency=1),
    "16-bit gray and alpha": png(
      np.stack([shades(), shades()[::-1]], -1), color_type=4
    ),
    "GIF": encoded(palette, "GIF", transparency=0),
    "WebP": encoded(drawing(127), "WEBP", lossless=True),
    "TIFF": encoded(drawing(127), "TIFF"),
    "TIFF LA": encoded(with_alpha("LA"), "TIFF"),
    "AVIF": encoded(drawing(127), "AVIF"),
  }


@pytest.mark.parametrize("name", list(transparent_files()))
def test_transparency_is_laid_on_white_as_in_transformers(name):
  data = transparent_files()[name]
  got = np.asarray(images.load(data))
  np.testing.assert_array_equal(got, by_transformers(data))
  assert (got == 255).any() and (got < 255).any()  # a ground and a drawing
  processor = pytest.importorskip(
    "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl",
    exc_type=ImportError,
  ).Qwen2VLImageProcessorPil(min_pixels=3136, max_pixels=3136)
  want = processor(images=[Image.open(io.BytesIO(data))], return_tensors="np")
  x, _ = images.patchify(QWEN, images.load(data), PixelBudget(3136, 3136))
  np.testing.assert_allclose(x, want["pixel_values"], atol=1e-6, rtol=0)


def test_a_color_key_of_16_bit_gray_is_white():
  gray = shades()
  key = struct.pack(">H", int(gray[0, 5]))
  got = np.asarray(images.load(png(gray, color_type=0, extra=(b"tRNS", key))))
  want = gray >> 8
  want[0, 5] = 255  # transformers loses the shades of 16-bit gray: see below
  np.testing.assert_array_equal(got, np.repeat(want[..., None], 3, -1))


def test_a_picture_without_transparency_keeps_its_black():
  for mode in ("RGB", "L", "1"):
    assert not np.asarray(images.load(encoded(Image.new(mode, (9, 9))))).any()
  opaque = Image.new("RGBA", (9, 9), (0, 0, 0, 255))
  assert not np.asarray(images.load(encoded(opaque))).any()


def turned_files(orientation: int) -> dict[str, bytes]:
  """Returns one picture in every format that says which way is up."""
  exif = Image.Exif()
  exif[0x0112] = orientation
  picture = Image.fromarray(noise(42, 30))
  xmp = f'<x tiff:Orientation="{orientation}"/>'.encode()
  text = PngImagePlugin.PngInfo()
  text.add_text(
    "Raw profile type exif",
    f"\nexif\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}\n",
  )
  front = encoded(picture, exif=exif)
  body = exif.tobytes()[6:]  # without "Exif\0\0"
  alpha = Image.fromarray(noise(42, 30)).convert("RGBA")
  alpha.putalpha(77)
  return {
    "PNG": front,
    "PNG, EXIF behind": png_with(encoded(picture), b"eXIf", body),
    "PNG, EXIF as text": encoded(picture, pnginfo=text),
    "PNG, XMP behind": png_with(
      encoded(picture), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
    ),
    "PNG, alpha": encoded(alpha, exif=exif),
    "JPEG": encoded(picture, "JPEG", exif=exif),
    "JPEG, XMP": encoded(picture, "JPEG", xmp=xmp),
    "WebP": encoded(picture, "WEBP", exif=exif),
    "TIFF": encoded(picture, "TIFF", exif=exif),
    "TIFF, packed": encoded(picture, "TIFF", exif=exif, compression="tiff_lzw"),
    "TIFF, XMP": encoded(picture, "TIFF", tiffinfo={700: xmp}),
    "AVIF": encoded(picture, "AVIF", exif=exif),
  }


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_in_transformers(orientation):
  for name, data in turned_files(orientation).items():
    got = images.load(data)
    assert got.size == ((30, 42) if orientation > 4 else (42, 30)), name
    np.testing.assert_array_equal(got, by_transformers(data), err_msg=name)
    assert images.size_of(data) == got.size, name


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(value):
  exif = Image.Exif()
  exif[0x0112] = value
  for kind in ("PNG", "JPEG", "WEBP"):
    data = encoded(noise(42, 30), kind, exif=exif)
    assert images.size_of(data) == images.load(data).size == (42, 30), kind


def test_the_turned_size_is_read_without_decoding(monkeypatch):
  files = turned_files(6)
  # Rare files, of which the header does not say which way is up.
  behind = {name: files.pop(name) for name in list(files) if "behind" in name}
  plain = encoded(noise(42, 30))
  dated = png_with(plain, b"tEXt", b"date:create\x002026-01-01")

  def decode(image):
    raise AssertionError(f"{image.format} was decoded")

  monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decode)
  monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
  for name, data in files.items():
    assert images.size_of(data) == (30, 42), name
  assert images.size_of(plain) == images.size_of(dated) == (42, 30)
  for data in behind.values():
    with pytest.raises(ValueError, match="PNG was decoded"):
      images.size_of(data)


def test_turning_keeps_the_shades_of_16_bit_gray():
  gray = np.arange(6, dtype=np.uint16).reshape(2, 3) << 8
  exif = Image.Exif()
  exif[0x0112] = 6  # the left column becomes the first row, from below
  data = encoded(Image.fromarray(gray), exif=exif)
  assert images.size_of(data) == (2, 3)
  want = np.rot90(gray >> 8, -1)
  np.testing.assert_array_equal(np.asarray(images.load(data))[..., 0], want)


def test_16_bit_gray_keeps_its_shades():
  got = np.asarray(images.load(encoded(Image.fromarray(shades()))))
  # Pillow's own conversion clips at 255: everything but black turns white.
  np.testing.assert_array_equal(got, np.repeat(shades()[..., None] >> 8, 3, -1))


@pytest.mark.parametrize("kind", ["I", "F"])
def test_32_bit_shades_are_refused_by_name(kind):
  picture = Image.new(kind, (4, 4), 7)
  with pytest.raises(ValueError, match=f"mode {kind}.*save it again as PNG"):
    images.load(encoded(picture, "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_of_an_animation_the_first_frame_is_used(kind):
  first, second = (Image.fromarray(noise(16, 16, seed)) for seed in (1, 2))
  how = {"save_all": True, "append_images": [second], "duration": 50}
  if kind == "WEBP":
    how["lossless"] = True
  data = encoded(first, kind, **how)
  with Image.open(io.BytesIO(data)) as stored:
    assert stored.n_frames == 2
    want = np.asarray(stored.convert("RGB"))
  np.testing.assert_array_equal(images.load(data), want)
  if kind in ("PNG", "WEBP", "TIFF"):  # the others are not lossless
    np.testing.assert_array_equal(want, first)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "EPS", "JPEG2000"])
def test_other_formats_are_refused_whatever_the_name(tmp_path, kind):
  file = tmp_path / "picture.png"
  file.write_bytes(encoded(noise(32, 32), kind))
  for read in (images.size_of, images.load):
    with pytest.raises(
      ValueError, match=r"picture\.png .*PNG, JPEG, .*convert it"
    ):
      read(file)


def test_a_wrong_extension_does_not_matter(tmp_path):
  file = tmp_path / "picture.jpg"
  file.write_bytes(encoded(noise(9, 8)))
  np.testing.assert_array_equal(images.load(str(file)), noise(9, 8))


@pytest.mark.parametrize("kind", images._FORMATS)
@pytest.mark.parametrize("part", [0, 1, 10, 30, 0.5, 0.9])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
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
  kind = images._FORMATS[seed % len(images._FORMATS)]
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
  started = time.process_time()
  for read in (images.size_of, images.load):
    with pytest.raises(ValueError, match="pixels"):
      read(data)
  # Decoding 81 million pixels takes longer, and fails with other words.
  assert time.process_time() - started < 0.5


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF"])
def test_a_bomb_of_another_format_is_refused_before_it_is_decoded(kind):
  small = encoded(Image.new("L", (300, 300)), kind)
  side = struct.pack("<H", 300)  # in BMP and TIFF perhaps of 4 bytes
  assert small.count(side) >= 2
  data = small.replace(side, struct.pack("<H", 9000))
  for read in (images.size_of, images.load):
    with pytest.raises(ValueError, match="81000000|9000 × 9000 pixels"):
      read(data)


def test_arrays_may_be_gray_colored_or_transparent():
  color, gray = noise(5, 4), noise(5, 4)[..., 0]
  alpha = np.concatenate([color, gray[..., None]], -1)
  for array in (color, gray, alpha, color[::-1, ::2]):
    assert images.size_of(array) == images.load(array).size
    np.testing.assert_array_equal(
      images.load(array), images.load(encoded(np.ascontiguousarray(array)))
    )


@pytest.mark.parametrize(
  "array",
  [
    np.zeros(4, np.uint8),
    np.zeros((4, 4, 1), np.uint8),
    np.zeros((3, 4, 5), np.uint8),  # channels first
    np.zeros((1, 4, 4, 3), np.uint8),
    np.zeros((4, 4, 3), np.float32),
    np.zeros((4, 4), np.uint16),
    np.zeros((4, 4), bool),
    np.zeros((0, 4, 3), np.uint8),
    np.zeros((4, 0), np.uint8),
  ],
)
def test_other_arrays_are_refused_by_both_passes(array):
  for read in (images.size_of, images.load):
    with pytest.raises(ValueError, match=r"picture has .*shape \(.*expected"):
      read(array)


@pytest.mark.parametrize("thing", [None, 7, Image.new("RGB", (4, 4)), [b"x"]])
def test_what_is_no_picture_is_refused_by_its_type(thing):
  for read in (images.size_of, images.load):
    with pytest.raises(ValueError, match=f"has type {type(thing).__name__}"):
      read(thing)


@pytest.mark.parametrize(
  "address", ["http://a.example/b.png", "data:image/png;base64," + "A" * 9000]
)
def test_an_address_is_refused_as_such(address):
  for read in (images.size_of, images.load):
    with pytest.raises(ValueError, match="is an address, .* local file") as e:
      read(address)
    assert len(str(e.value)) < 200


def test_jpegs_of_cameras_and_printers_are_read_as_in_pillow():
  first, second = (Image.fromarray(noise(24, 16, seed)) for seed in (1, 2))
  several = encoded(first, "MPO", save_all=True, append_images=[second])
  cmyk = encoded(first.convert("CMYK"), "JPEG")
  at = cmyk.index(b"Adobe") + 11  # the color transform: 2 means YCCK
  ycck = cmyk[:at] + b"\2" + cmyk[at + 1 :]
  for data in (several, cmyk, ycck):
    assert images.size_of(data) == (24, 16)
    with Image.open(io.BytesIO(data)) as stored:
      np.testing.assert_array_equal(images.load(data), stored.convert("RGB"))
  assert np.any(np.asarray(images.load(ycck)) != images.load(cmyk))


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
