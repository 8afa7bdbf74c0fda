"""Pictures: every color mode becomes RGB, on white, and the right way up."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFile, ImageOps, PngImagePlugin

from jaxvlm.data import images
from jaxvlm.data.images import PixelBudget
from tests.data.pictures import QWEN, chunk, encoded, noise


def png_with(data: bytes, name: bytes, body: bytes) -> bytes:
  """Returns a PNG with one more chunk behind its pixels."""
  assert data[-8:-4] == b"IEND"
  return data[:-12] + chunk(name, body) + data[-12:]


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
