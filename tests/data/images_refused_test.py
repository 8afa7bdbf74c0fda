"""Pictures: what is broken, too large, or no picture at all is refused."""

import os
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxvlm.data import images
from tests.data.pictures import chunk, encoded, noise


def png_header(width: int, height: int) -> bytes:
  """Returns a small PNG that claims a size and holds next to no pixels."""
  size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", size)
    + chunk(b"IDAT", zlib.compress(bytes(1000)))
    + chunk(b"IEND", b"")
  )


@pytest.mark.parametrize("kind", ["I", "F"])
def test_32_bit_shades_are_refused_by_name(kind):
  picture = Image.new(kind, (4, 4), 7)
  with pytest.raises(ValueError, match=f"mode {kind}.*save it again as PNG"):
    images.load(encoded(picture, "TIFF"))


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
    pipe = tmp_path / f"{read.__name__}.png"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="it is a folder or a pipe"):
      read(pipe)  # which nobody ever fills


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
