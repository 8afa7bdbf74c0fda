"""Draws a scene: shapes in cells of 28 pixels, to the pixel everywhere.

A cell is one merged token of the vision tower, so that an object never
straddles two: as with the diagrams' glyphs, that lets a model of a million
parameters learn to see in minutes. An edge that is black whatever the color
shows the shape apart from it.
"""

import random

import numpy as np

from jaxvlm.data.scenes.meaning import LEFT, Meaning

CELL = 28
CELLS = 4  # a picture is 4 × 4 cells
SIDE = CELL * CELLS

_REACH = {"small": 6, "large": 11}  # half the side of a shape, pixels
_EDGE = 2  # pixels around it
_INK = (0, 0, 0)  # of the edge; no color of `COLORS`
_PAINT = {
  "red": (215, 40, 40),
  "green": (35, 150, 60),
  "blue": (45, 80, 215),
  "orange": (245, 150, 30),
  "purple": (150, 60, 175),
  "black": (25, 25, 25),
}
_PAPER = {
  "white": (255, 255, 255),
  "gray": (190, 190, 190),
  "yellow": (250, 240, 140),
  "pink": (250, 205, 215),
}

Cell = tuple[int, int]  # (row, column)


def draw(meaning: Meaning, rng: random.Random) -> np.ndarray:
  """Returns u8[112, 112, 3], read-only: a picture of which the meaning holds.

  Args:
    meaning: one thing anywhere, or two of which every object of the first is
      left of (above) every object of the second, without being above it (left
      of it) as well.
    rng: source of randomness.
  """
  pixels = np.empty((SIDE, SIDE, 3), np.uint8)
  pixels[:] = _PAPER[meaning.background]
  places = _places(meaning, rng)
  for thing, cells in zip(meaning.things, places, strict=True):
    shape = np.pad(_mask(thing.shape, _REACH[thing.size]), _EDGE)
    around = _grown(shape, _EDGE)
    for row, column in cells:
      y, x = (CELL * place + CELL // 2 for place in (row, column))
      half = shape.shape[0] // 2
      window = pixels[y - half : y + half + 1, x - half : x + half + 1]
      window[around] = _INK
      window[shape] = _PAINT[thing.color]
  pixels.setflags(write=False)
  return pixels


def _places(meaning: Meaning, rng: random.Random) -> list[list[Cell]]:
  """Returns the cells of every thing."""
  everywhere = [(row, col) for row in range(CELLS) for col in range(CELLS)]
  if meaning.relation is None:
    (thing,) = meaning.things
    return [rng.sample(everywhere, thing.count)]
  half = CELLS // 2
  while True:
    parts = [
      rng.sample(
        [(line, place) for line in range(CELLS) for place in side], thing.count
      )
      for thing, side in zip(
        meaning.things, (range(half), range(half, CELLS)), strict=True
      )
    ]
    # They share a line: neither is above the other beside being left of it.
    first, second = ({line for line, _ in part} for part in parts)
    if min(first) <= max(second) and min(second) <= max(first):
      break
  if meaning.relation == LEFT:
    return parts
  return [[(place, line) for line, place in part] for part in parts]


def _grown(mask: np.ndarray, pixels: int) -> np.ndarray:
  """Returns the mask and what lies so near to it, corner to corner too."""
  for axis in (0, 1):
    shifts = [np.roll(mask, k, axis) for k in range(-pixels, pixels + 1)]
    mask = np.logical_or.reduce(shifts)
  return mask


def _mask(shape: str, reach: int) -> np.ndarray:
  """Returns bool[2·reach + 1]² of a shape."""
  y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
  if shape == "circle":
    return x * x + y * y <= reach * reach + reach
  if shape == "square":
    return np.ones(x.shape, bool)
  if shape == "triangle":  # as wide as it is high, standing on its base
    return 2 * abs(x) <= y + reach
  if shape == "diamond":
    return abs(x) + abs(y) <= reach
  third = reach // 3
  return (abs(x) <= third) | (abs(y) <= third)
