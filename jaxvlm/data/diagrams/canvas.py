"""A small picture: lines, discs and labels, to the pixel on every platform.

Everything is drawn with integers and our own 5x7 glyphs, without fonts and
without anti-aliasing, so that a seed gives the same bytes everywhere.

Labels stand on a grid of 14-pixel cells, one character a cell, as characters
stand on a line of print. The grid is the patch grid of the vision tower: a
character never straddles two patches, which is what lets a model of less than
a million parameters learn to read in minutes. Characters are set flush right
(10 pixels wide, 2 apart), so that a ones digit always stands at the left edge
of its cell, a tens digit 2 pixels in and a hundreds digit 4 pixels in.
"""

import math
from collections.abc import Sequence

import numpy as np

CELL = 14

Point = tuple[float, float]
Side = tuple[float, float, float, float]
Color = tuple[int, int, int]

BLACK: Color = (0, 0, 0)
# For lines: light enough for black digits to stand out.
COLORS: tuple[Color, ...] = ((110, 160, 235), (70, 185, 175), (240, 160, 80))

_SCALE = 2
_PITCH = 12  # ten pixels of glyph and two of gap
# A label rather moves by one cell (14² of squared distance) than cover more
# than about 12 pixels of line.
_INK_COST = 16
# Leaving the angle that it names by 7 pixels costs a label as much as moving
# by two cells.
_SIDE_COST = 16

_BITMAPS = {
  "0": (".###.", "#...#", "#..##", "#.#.#", "##..#", "#...#", ".###."),
  "1": ("..#..", ".##..", "..#..", "..#..", "..#..", "..#..", ".###."),
  "2": (".###.", "#...#", "....#", "..##.", ".#...", "#....", "#####"),
  "3": (".###.", "#...#", "....#", "..##.", "....#", "#...#", ".###."),
  "4": ("...#.", "..##.", ".#.#.", "#..#.", "#####", "...#.", "...#."),
  "5": ("#####", "#....", "####.", "....#", "....#", "#...#", ".###."),
  "6": (".###.", "#....", "#....", "####.", "#...#", "#...#", ".###."),
  "7": ("#####", "....#", "...#.", "..#..", "..#..", ".#...", ".#..."),
  "8": (".###.", "#...#", "#...#", ".###.", "#...#", "#...#", ".###."),
  "9": (".###.", "#...#", "#...#", ".####", "....#", "....#", ".###."),
  "x": (".....", ".....", "#...#", ".#.#.", "..#..", ".#.#.", "#...#"),
}


def _glyph(rows: tuple[str, ...]) -> np.ndarray:
  bits = np.array([[mark == "#" for mark in row] for row in rows])
  return np.kron(bits, np.ones((_SCALE, _SCALE), bool)).astype(bool)


_GLYPHS = {char: _glyph(rows) for char, rows in _BITMAPS.items()}


def pixel(value: float) -> int:
  """Returns the pixel that `value` falls on.

  Halves are rounded up, and so is what lies a rounding error below: the sine
  of 30 degrees must not decide between two pixels by its last bit, in which
  platforms differ.
  """
  return math.floor(value + 0.5 + 1e-6)


def clearance(size: int, nx: float, ny: float) -> float:
  """Returns how far a label of `size` characters reaches along a normal."""
  return (_PITCH * size / 2 - 1) * abs(nx) + CELL / 2 * abs(ny) + 2


class Canvas:
  """A white picture to draw on; lines first, labels last.

  Attributes:
    pixels: u8[height, width, 3].
    labels: (row, column, text) of every label in cells; its first character
      stands in that cell.
    strain: how badly the worst label stands, in squared pixels: its distance
      from where it should be, plus what it covers and where it trespasses.
  """

  def __init__(self, width: int, height: int):
    if width % CELL or height % CELL:
      raise ValueError(
        f"a canvas of {width}x{height} pixels; expected multiples of {CELL},"
        " the cell of a label: choose another size"
      )
    self.width, self.height = width, height
    self.pixels = np.full((height, width, 3), 255, np.uint8)
    self.labels: list[tuple[int, int, str]] = []
    self.strain = 0.0
    self._ink = np.zeros((height, width), bool)
    self._inks: list[list[int]] = []
    # Cells that labels occupy or border on: a row is a number, a cell a bit.
    self._taken = [0] * (height // CELL)

  def line(self, start: Point, end: Point, color: Color, thickness: int = 2):
    """Draws a straight line, rounded by integers; clipped at the border."""
    x0, y0 = pixel(start[0]), pixel(start[1])
    dx, dy = pixel(end[0]) - x0, pixel(end[1]) - y0
    length = max(abs(dx), abs(dy), 1)
    step = np.arange(length + 1)
    x = x0 + (2 * dx * step + length) // (2 * length)
    y = y0 + (2 * dy * step + length) // (2 * length)
    across = np.arange(thickness)[:, None] - (thickness - 1) // 2
    if abs(dx) >= abs(dy):
      self._paint(np.tile(x, thickness), (y + across).ravel(), color)
    else:
      self._paint((x + across).ravel(), np.tile(y, thickness), color)

  def polygon(self, corners: list[Point], color: Color, thickness: int = 2):
    """Draws the closed outline through `corners`."""
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
      self.line(start, end, color, thickness)

  def ring(self, center: Point, radius: int, color: Color, thickness: int = 2):
    """Draws a circle whose outer radius is `radius`."""
    self._disc(center, radius, max(radius - thickness, 0), color)

  def dot(self, center: Point, radius: int, color: Color):
    """Draws a filled disc."""
    self._disc(center, radius, -1, color)

  def block(self, left: int, top: int, right: int, bottom: int, color: Color):
    """Draws a filled rectangle; `right` and `bottom` are exclusive."""
    self.pixels[top:bottom, left:right] = color
    self._ink[top:bottom, left:right] = True

  def label(self, text: str, near: Point, sides: Sequence[Side] = ()):
    """Writes `text` in free cells close to `near`, preferably off the lines.

    A label keeps an empty cell on each of its four sides, so that two numbers
    are never read as one; where it must cover a line, the line is interrupted.

    Args:
      text: characters that have a glyph.
      near: where its middle should be.
      sides: half-planes (x, y, nx, ny), a point of the border and the normal
        that points inside; the label leaves them only under pressure.
    """
    size = len(text)
    # How deep inside each side the middle of the label has to be.
    borders = [
      (x, y, nx, ny, clearance(size, nx, ny)) for x, y, nx, ny in sides
    ]
    best, where = math.inf, None
    for row, inks in enumerate(self._ink_cells()):
      y = CELL * row + CELL // 2
      for column in range(len(inks) - size + 1):
        x = CELL * column + 8 * size - 3
        cost = (x - near[0]) ** 2 + (y - near[1]) ** 2
        if cost >= best or self._taken[row] >> column & (1 << size) - 1:
          continue
        cost += _INK_COST * sum(inks[column : column + size])
        for bx, by, nx, ny, depth in borders:
          outside = depth - (x - bx) * nx - (y - by) * ny
          if outside > 0:
            cost += _SIDE_COST * outside * outside
        if cost < best:
          best, where = cost, (row, column)
    if where is None:
      raise ValueError(
        f"no free cells for label {text!r} beside {self.labels}; expected at"
        " most three labels of three characters: draw fewer"
      )
    self.strain = max(self.strain, best)
    self._write(text, *where)

  def reading(self) -> list[str]:
    """Returns the labels as one reads: top to bottom, then left to right."""
    return [text for _, _, text in sorted(self.labels)]

  def _write(self, text: str, row: int, column: int):
    size = len(text)
    self.labels.append((row, column, text))
    cells = (1 << size) - 1 << column
    self._taken[row] |= cells | cells << 1 | cells >> 1
    for beside in range(max(row - 1, 0), min(row + 2, len(self._taken))):
      self._taken[beside] |= cells
    x = CELL * column + 2 * (size - 1)
    y = CELL * row
    end = x + _PITCH * size - 2
    self.pixels[max(y - 1, 0) : y + 15, max(x - 2, 0) : end + 2] = 255
    for at, char in enumerate(text):
      left = x + _PITCH * at
      self.pixels[y : y + 14, left : left + 10][_GLYPHS[char]] = BLACK

  def _ink_cells(self) -> list[list[int]]:
    """Returns the painted pixels of every cell; labels come after lines."""
    if not self._inks:
      cells = self._ink.reshape(self.height // CELL, CELL, -1, CELL)
      self._inks = cells.sum((1, 3), dtype=np.int64).tolist()
    return self._inks

  def _paint(self, x: np.ndarray, y: np.ndarray, color: Color):
    inside = (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)
    x, y = x[inside], y[inside]
    self.pixels[y, x] = color
    self._ink[y, x] = True

  def _disc(self, center: Point, outer: int, inner: int, color: Color):
    cx, cy = pixel(center[0]), pixel(center[1])
    left, top = max(cx - outer, 0), max(cy - outer, 0)
    x = np.arange(left, min(cx + outer + 1, self.width)) - cx
    y = np.arange(top, min(cy + outer + 1, self.height)) - cy
    square = y[:, None] ** 2 + x**2
    # r² + r instead of r²: rounder discs at small radii.
    hit = square <= outer * outer + outer
    if inner >= 0:
      hit &= square > inner * inner + inner
    window = np.s_[top : top + len(y), left : left + len(x)]
    self.pixels[window][hit] = color
    self._ink[window] |= hit
