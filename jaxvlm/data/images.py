"""Pictures to patches in NumPy, as Qwen2-VL's processor does it.

Resizing is Pillow's bicubic on 8-bit RGB, the rest is float32; the numbers
equal those of transformers' `Qwen2VLImageProcessorPil`.
"""

import dataclasses
import io
import math
import pathlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxvlm.data.layout import Grid, VisionLayout

# OpenAI CLIP's statistics, which the family was trained with.
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
_FORMATS = ("PNG", "JPEG", "WEBP")
_MAX_ASPECT = 200
# A 10 kB PNG can unpack to hundreds of megabytes; refuse before decoding.
_MAX_DECODED_PIXELS = 50_000_000


@dataclasses.dataclass(frozen=True)
class PixelBudget:
  """How large a picture may be after resizing, in pixels."""

  min_pixels: int = 56 * 56
  max_pixels: int = 28 * 28 * 1280


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


def _name(source: str | pathlib.Path | bytes) -> str:
  """Returns what to call a picture in a message."""
  return "in memory" if isinstance(source, bytes) else str(source)


def _open(source: str | pathlib.Path | bytes) -> Image.Image:
  """Opens a picture without decoding it; refuses formats and bombs."""
  name = _name(source)
  stream = io.BytesIO(source) if isinstance(source, bytes) else source
  try:
    image = Image.open(stream, formats=_FORMATS)
  except FileNotFoundError as e:
    raise FileNotFoundError(f"picture {name} does not exist") from e
  except UnidentifiedImageError as e:  # its text holds a memory address
    raise ValueError(
      f"picture {name} cannot be identified: expected a whole file in one of"
      f" {', '.join(_FORMATS)}; convert it"
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


def size_of(source: str | pathlib.Path | bytes | np.ndarray) -> tuple[int, int]:
  """Returns (width, height) from the header alone."""
  if isinstance(source, np.ndarray):
    return source.shape[1], source.shape[0]
  with _open(source) as image:
    return image.size


def load(source: str | pathlib.Path | bytes | np.ndarray) -> Image.Image:
  """Returns an RGB picture: the first frame, as stored.

  Transparency is dropped, as the processor does. An EXIF orientation is not
  applied: neither the processor nor Qwen's own loader does, and the survey
  would have to decode pictures to learn their size. 16-bit gray keeps its
  high byte, where Pillow's conversion would turn all but black into white.

  Args:
    source: path, encoded bytes, or u8[H, W, 3].

  Raises:
    FileNotFoundError, ValueError: naming the picture and what is wrong.
  """
  if isinstance(source, np.ndarray):
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
      raise ValueError(
        f"picture has dtype {source.dtype} and shape {source.shape}, expected"
        " uint8 [H, W, 3]"
      )
    return Image.fromarray(source)
  with _open(source) as image:
    try:
      if image.mode.startswith("I"):
        high = (np.asarray(image) >> 8).astype(np.uint8)
        return Image.fromarray(high).convert("RGB")
      return image.convert("RGB")
    except Exception as e:  # Pillow raises OSError, SyntaxError, struct.error…
      raise ValueError(
        f"picture {_name(source)} cannot be decoded: {e}; expected a whole file"
      ) from e


def patchify(
  layout: VisionLayout, image: Image.Image, budget: PixelBudget
) -> tuple[np.ndarray, Grid]:
  """Returns (patches f32[n, C], grid) in the processor's reading order.

  x = (resize(image) / 255 − mean) / std; patch rows are
  (row / merge, column / merge, merge, merge), values (channel, frame, y, x).
  """
  _, rows, cols = grid = grid_of(layout, image.width, image.height, budget)
  p, m = layout.patch, layout.merge
  if image.size != (cols * p, rows * p):
    image = image.resize((cols * p, rows * p), Image.Resampling.BICUBIC)
  x = np.asarray(image, np.float32) * np.float32(1 / 255)
  x = (x - _MEAN) / _STD
  x = x.reshape(rows // m, m, p, cols // m, m, p, 3)
  x = x.transpose(0, 3, 1, 4, 6, 2, 5)  # [R, C, m, m, channel, p, p]
  x = np.repeat(x[:, :, :, :, :, None], layout.temporal_patch, axis=5)
  return np.ascontiguousarray(x.reshape(rows * cols, -1)), grid
