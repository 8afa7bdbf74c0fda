"""Pictures to patches in NumPy, as Qwen2-VL's processor does it.

Resizing is Pillow's bicubic on 8-bit RGB, the rest is float32; the numbers
equal those of transformers' `Qwen2VLImageProcessorPil`.
"""

import dataclasses
import io
import math
import os
import pathlib
import stat
import struct
from typing import NamedTuple

import numpy as np
from PIL import (
  ExifTags,
  Image,
  ImageFile,
  ImageOps,
  TiffImagePlugin,
  UnidentifiedImageError,
)

from jaxvlm.data.layout import Grid, VisionLayout
from jaxvlm.data.layout import slots as slots_of

# What Pillow decodes itself or by a library that comes with it; others (EPS,
# WMF, …) start programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_ADDRESSES = ("http://", "https://", "data:")
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange the sides
_MAX_ASPECT = 200
# A 10 kB PNG can unpack to hundreds of megabytes; refuse before decoding.
_MAX_DECODED_PIXELS = 50_000_000


@dataclasses.dataclass(frozen=True)
class PixelBudget:
  """How large a picture may be after resizing, in pixels."""

  min_pixels: int = 56 * 56
  max_pixels: int = 28 * 28 * 1280

  def __post_init__(self):
    if not 1 <= self.min_pixels <= self.max_pixels:
      raise ValueError(
        f"min_pixels is {self.min_pixels} and max_pixels {self.max_pixels},"
        " expected 1 ≤ min_pixels ≤ max_pixels"
      )

  def replaced(
    self, min_pixels: int | None, max_pixels: int | None
  ) -> "PixelBudget":
    """Returns the budget with the limits that are given; None keeps one.

    A given limit moves the other one along where both would contradict.
    """
    least = self.min_pixels if min_pixels is None else min_pixels
    most = self.max_pixels if max_pixels is None else max_pixels
    if min_pixels is None:
      least = min(least, most)
    if max_pixels is None:
      most = max(least, most)
    return PixelBudget(least, most)


class Colors(NamedTuple):
  """Statistics of red, green and blue in 0 … 1."""

  mean: tuple[float, float, float]
  std: tuple[float, float, float]


# OpenAI's statistics, which the family was trained with; a folder may say
# otherwise (`jaxvlm.data.processor`).
CLIP = Colors(
  mean=(0.48145466, 0.4578275, 0.40821073),
  std=(0.26862954, 0.26130258, 0.27577711),
)


def smart_resize(
  height: int, width: int, factor: int, budget: PixelBudget
) -> tuple[int, int]:
  """Returns (height, width): multiples of `factor` within the budget.

  Raises:
    ValueError: a side of 0, or an aspect ratio beyond 200.
  """
  if min(height, width) < 1 or max(height, width) > _MAX_ASPECT * min(
    height, width
  ):
    raise ValueError(
      f"picture is {width} × {height} pixels: expected both sides positive and"
      f" an aspect ratio of at most {_MAX_ASPECT}; crop it"
    )
  h = round(height / factor) * factor
  w = round(width / factor) * factor
  if h * w > budget.max_pixels:
    shrink = math.sqrt(height * width / budget.max_pixels)
    h = max(factor, math.floor(height / shrink / factor) * factor)
    w = max(factor, math.floor(width / shrink / factor) * factor)
  elif h * w < budget.min_pixels:
    grow = math.sqrt(budget.min_pixels / (height * width))
    h = math.ceil(height * grow / factor) * factor
    w = math.ceil(width * grow / factor) * factor
  return h, w


def grid_of(
  layout: VisionLayout, width: int, height: int, budget: PixelBudget
) -> Grid:
  """Returns the patch grid (1, rows, columns) of a picture of this size."""
  h, w = smart_resize(height, width, layout.patch * layout.merge, budget)
  return 1, h // layout.patch, w // layout.patch


class Room(NamedTuple):
  """What a picture takes in a prompt.

  Attributes:
    tokens: merged tokens.
    slots: patch slots in padded window order.
  """

  tokens: int
  slots: int


def largest(layout: VisionLayout, budget: PixelBudget) -> Room:
  """Returns the room that no picture of the budget exceeds, whatever its shape.

  Slots are counted by whole windows, so thin pictures take most: with 1,003,520
  pixels a strip of 5 × 256 merged tokens needs 8,192 of them, a square 5,184.
  For every number of rows the most columns are found that `smart_resize` can
  give, in each of its three branches: with M and m the limits in merged tokens
  and 200 the most extreme ratio of the sides,

    shrunk: M / rows and √(200 M);  kept: M / rows and 200 rows + 100;
    grown: ⌈m / (rows − 1)⌉ and ⌈√(200 m)⌉.

  A strip cannot be made thinner than one row, so that few pixels are exceeded.
  """
  area = (layout.patch * layout.merge) ** 2
  most, least = budget.max_pixels / area, budget.min_pixels / area
  longest = math.floor(math.sqrt(_MAX_ASPECT * most))
  grown_longest = math.ceil(math.sqrt(_MAX_ASPECT * least))
  tokens = slots = 0
  # Rows and columns may change places: no more rows than columns will do.
  for rows in range(1, math.isqrt(int(max(most, least))) + 3):
    kept = min(int(most / rows), _MAX_ASPECT * rows + _MAX_ASPECT // 2)
    if rows > 1:
      shrunk = min(int(most / rows), longest)
      grown = min(math.ceil(least / (rows - 1)), grown_longest)
    else:
      # One row is what is left of a height of less than two.
      shrunk = longest if most < 4 * _MAX_ASPECT else 0
      grown = grown_longest
    columns = max(kept, shrunk, grown)
    grid = (1, rows * layout.merge, columns * layout.merge)
    tokens = max(tokens, rows * columns)
    slots = max(slots, slots_of(layout, grid))
  return Room(tokens, slots)


def _name(source: object) -> str:
  """Returns what to call a picture in a message."""
  return str(source) if isinstance(source, str | pathlib.Path) else "in memory"


def _is_special(path: str | pathlib.Path) -> bool:
  """Whether a path is a folder, or a pipe, which would be waited for."""
  try:
    return not stat.S_ISREG(os.stat(path).st_mode)
  except (OSError, ValueError):  # absent, a NUL: opening it says so
    return False


def _open(source: str | pathlib.Path | bytes) -> ImageFile.ImageFile:
  """Opens a picture without decoding it; refuses formats and bombs."""
  name = _name(source)
  if not isinstance(source, str | pathlib.Path | bytes):
    raise ValueError(
      f"picture has type {type(source).__name__}, expected a path, encoded"
      " bytes or an array uint8 [H, W, 3]"
    )
  if isinstance(source, str) and source.startswith(_ADDRESSES):
    raise ValueError(
      f"picture {source[:60]} is an address, expected a local file or bytes:"
      " nothing is downloaded; save it first"
    )
  if not isinstance(source, bytes) and _is_special(source):
    raise ValueError(
      f"picture {name} cannot be read: it is a folder or a pipe, expected a"
      f" file in one of {', '.join(_FORMATS)}"
    )
  stream = io.BytesIO(source) if isinstance(source, bytes) else source
  try:
    image = Image.open(stream, formats=_FORMATS)
  except FileNotFoundError as e:
    raise FileNotFoundError(f"picture {name} does not exist") from e
  except UnidentifiedImageError as e:  # its text holds a memory address
    raise ValueError(
      f"picture {name} cannot be identified: expected a whole file in one of"
      f" {', '.join(_FORMATS)}; convert it to PNG"
    ) from e
  except Exception as e:
    raise ValueError(
      f"picture {name} cannot be read: {e}; expected {', '.join(_FORMATS)}"
    ) from e
  if image.width * image.height > _MAX_DECODED_PIXELS:
    raise ValueError(
      f"picture {name} has {image.width} × {image.height} pixels, expected at"
      f" most {_MAX_DECODED_PIXELS:,}; scale it down"
    )
  return image


def _from_array(array: np.ndarray) -> Image.Image:
  """Returns an array as a picture of mode L, RGB or RGBA."""
  channels = array.shape[2:]
  if array.dtype != np.uint8 or channels not in ((), (3,), (4,)):
    raise ValueError(
      f"picture has dtype {array.dtype} and shape {array.shape}, expected"
      " uint8 [H, W, 3], [H, W, 4] or [H, W]"
    )
  if array.ndim < 2 or not array.size:
    raise ValueError(
      f"picture has shape {array.shape}: expected both sides positive"
    )
  return Image.fromarray(array)


def _exif_stands_behind_the_pixels(image: ImageFile.ImageFile) -> bool:
  """Returns whether a PNG carries EXIF or XMP after its picture data.

  Pillow decodes the picture to find out. Here the lengths of the chunks are
  read and their contents passed over.
  """
  names = (b"Raw profile type exif", b"XML:com.adobe.xmp")
  stream = image.fp
  if stream is None:  # decoded already
    return False
  before = stream.tell()
  stream.seek(8)  # the signature
  pixels = found = False
  while not found and len(head := stream.read(8)) == 8:
    length, kind = struct.unpack(">I4s", head)
    start = stream.tell()
    pixels |= kind == b"IDAT"
    if pixels and kind in (b"tEXt", b"zTXt", b"iTXt"):
      found = stream.read(min(length, 32)).startswith(names)
    elif pixels:
      found = kind == b"eXIf"
    stream.seek(start + length + 4)  # the checksum
  stream.seek(before)
  return found


def _orientation(image: ImageFile.ImageFile) -> int:
  """Returns the EXIF orientation that Pillow would apply, 1 if none."""
  late = image.format == "PNG" and _exif_stands_behind_the_pixels(image)
  # `PngImageFile.getexif` decodes every picture that has no EXIF in front.
  exif = image.getexif() if late else Image.Image.getexif(image)
  return exif.get(ExifTags.Base.Orientation, 1)


def size_of(source: str | pathlib.Path | bytes | np.ndarray) -> tuple[int, int]:
  """Returns the (width, height) that `load` gives, from the header alone.

  Raises:
    FileNotFoundError, ValueError: naming the picture and what is wrong.
  """
  if isinstance(source, np.ndarray):
    return _from_array(source).size
  with _open(source) as image:
    try:
      turned = _orientation(image) in _TURNED
    except Exception as e:  # Pillow raises SyntaxError, struct.error…
      raise ValueError(
        f"picture {_name(source)} cannot be read: {e}; expected a whole file"
      ) from e
    if isinstance(image, TiffImagePlugin.TiffImageFile):
      if ExifTags.Base.Orientation in image.tag_v2:
        return image.size  # Pillow has exchanged the sides already
    return (image.height, image.width) if turned else image.size


def is_animated(source: str | pathlib.Path | bytes | np.ndarray) -> bool:
  """Whether a picture has several frames, of which `load` takes the first.

  Raises:
    FileNotFoundError, ValueError: as `size_of`.
  """
  if isinstance(source, np.ndarray):
    return False
  with _open(source) as image:
    try:
      return bool(getattr(image, "is_animated", False))
    except Exception:  # a broken second frame: the first one is what is used
      return True


def load(source: str | pathlib.Path | bytes | np.ndarray) -> Image.Image:
  """Returns an RGB picture: the first frame, upright, on white.

  The EXIF orientation is applied, as transformers' `load_image` does when it
  opens a file. Transparency is laid on white, as its processor does: ink on a
  transparent ground has black behind it, and would drown. One thing differs:
  16-bit gray keeps its high byte, where Pillow's conversion would turn all
  but black into white.

  Args:
    source: path, encoded bytes, or u8[H, W, 3], u8[H, W, 4] (the last is
      alpha) or u8[H, W] (gray).

  Raises:
    FileNotFoundError, ValueError: naming the picture and what is wrong.
  """
  if isinstance(source, np.ndarray):
    return _on_white(_from_array(source))
  with _open(source) as image:
    try:
      return _on_white(ImageOps.exif_transpose(image))
    except Exception as e:  # Pillow raises OSError, SyntaxError, struct.error…
      raise ValueError(
        f"picture {_name(source)} cannot be decoded: {e}; expected a whole file"
        " of 8-bit colors or of 8- or 16-bit gray; save it again as PNG"
      ) from e


def _on_white(image: Image.Image) -> Image.Image:
  """Returns any picture as RGB; transparency becomes white.

  RGB' = α · RGB + (1 − α) · 255, in Pillow's 8-bit arithmetic. Transparent is
  what an alpha channel, a palette entry or a color key says.
  """
  key = image.info.get("transparency")
  if image.mode in ("I", "F"):
    raise ValueError(
      f"its shades are 32-bit numbers (mode {image.mode}), which have no black"
      " and white"
    )
  if image.mode.startswith("I;16"):
    shades = np.asarray(image)
    high = (shades >> 8).astype(np.uint8)
    return Image.fromarray(
      high if key is None else np.where(shades == key, np.uint8(255), high)
    ).convert("RGB")
  if key is None and "A" not in image.getbands():
    return image.convert("RGB")
  image = image.convert("RGBA")
  white = Image.new("RGBA", image.size, (255, 255, 255, 255))
  return Image.alpha_composite(white, image).convert("RGB")


def patchify(
  layout: VisionLayout,
  image: Image.Image,
  budget: PixelBudget,
  colors: Colors = CLIP,
) -> tuple[np.ndarray, Grid]:
  """Returns (patches f32[n, C], grid) in the processor's reading order.

  x = (resize(image) / 255 − mean) / std; patch rows are
  (row / merge, column / merge, merge, merge), values (channel, frame, y, x).
  """
  _, rows, cols = grid = grid_of(layout, image.width, image.height, budget)
  p, m = layout.patch, layout.merge
  if image.size != (cols * p, rows * p):
    image = image.resize((cols * p, rows * p), Image.Resampling.BICUBIC)
  # One color after the other: few megabytes at a time, which stay in caches.
  planes = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
  out = np.empty(
    (rows // m, cols // m, m, m, 3, layout.temporal_patch, p, p), np.float32
  )
  for color, (mean, std) in enumerate(zip(*colors, strict=True)):
    x = planes[color].reshape(rows // m, m, p, cols // m, m, p)
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 4, 2, 5))  # R, C, m, m, p, p
    x = np.multiply(x, np.float32(1 / 255), dtype=np.float32)
    x -= np.float32(mean)
    x /= np.float32(std)
    out[:, :, :, :, color] = x[:, :, :, :, None]
  return out.reshape(rows * cols, -1), grid
