"""Pictures of noise, and the bytes of files that hold pictures."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from jaxvlm.data import layout

QWEN = layout.VisionLayout()


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
