"""Families about lengths: rectangles and circles.

Rectangles are drawn roughly to scale: the longer side is the longer one, but
their ratio is pulled toward a square, so that every label finds room.

Reading order: top to bottom, then left to right.
"""

import math
import random

from jaxvlm.data.diagrams.canvas import COLORS, Canvas
from jaxvlm.data.diagrams.template import (
  Family,
  Numbers,
  Template,
  Worked,
  given_numbers,
  plus,
  times,
)

_SHORTEST, _LONGEST = 2, 12
_MARGIN = 4
# Room for a label of two cells beside the rectangle, one above or below.
_BESIDE, _ABOVE = 32, 20


# Rectangles.


def _pose_sides(rng: random.Random) -> Numbers:
  return (
    rng.randint(_SHORTEST, _LONGEST),
    rng.randint(_SHORTEST, _LONGEST),
  )


def _pose_half_perimeter(rng: random.Random) -> Numbers:
  """Makes every perimeter equally likely, or the middle would be guessed."""
  half = rng.randint(2 * _SHORTEST, 2 * _LONGEST)
  low, high = max(_SHORTEST, half - _LONGEST), min(_LONGEST, half - _SHORTEST)
  side = rng.randint(low, high)
  return side, half - side


def _draw_rectangle(rng: random.Random, canvas: Canvas, numbers: Numbers):
  # Ratios from 1/6 to 6 become ratios from 0.4 to 2.5.
  ratio = math.sqrt(numbers[0] / numbers[1])
  room_x = canvas.width - _MARGIN - _BESIDE
  room_y = canvas.height - _MARGIN - _ABOVE
  high = min(room_x / ratio, room_y) * (0.75 + 0.25 * rng.random())
  wide = high * ratio
  on_left, on_top = rng.random() < 0.5, rng.random() < 0.5
  left = rng.random() * (room_x - wide) + (_BESIDE if on_left else _MARGIN)
  top = rng.random() * (room_y - high) + (_ABOVE if on_top else _MARGIN)
  right, bottom = left + wide, top + high
  canvas.polygon(
    [(left, top), (right, top), (right, bottom), (left, bottom)],
    rng.choice(COLORS),
  )
  x = left - _BESIDE / 2 if on_left else right + _BESIDE / 2
  y = top - _ABOVE / 2 if on_top else bottom + _ABOVE / 2
  canvas.label(str(numbers[0]), ((left + right) / 2, y))
  canvas.label(str(numbers[1]), (x, (top + bottom) / 2))
  return given_numbers(canvas)


def _solve_area(a: int, b: int) -> Worked:
  part = max(size for size in (1, 2, 5, 10) if size < a)
  pieces = part * b, (a - part) * b
  return Worked(
    answer=str(a * b),
    add=times(a, b),
    chain=f"{times(part, b)}, {times(a - part, b)}, {plus(*pieces)}",
    words=f"given {a} and {b}, so the area is {times(a, b)}",
  )


def _solve_perimeter(a: int, b: int) -> Worked:
  half = a + b
  return Worked(
    answer=str(2 * half),
    add=f"{plus(a, b)}, {plus(half, half)}",
    chain=f"{times(2, a)}, {times(2, b)}, {plus(2 * a, 2 * b)}",
    words=f"given {a} and {b}, so it is twice {plus(a, b)}",
  )


RECTANGLE = Family(
  "rectangle",
  (
    Template(
      "area",
      ("What is the area of the rectangle?", "Find the area."),
      _pose_sides,
      _draw_rectangle,
      _solve_area,
    ),
    Template(
      "perimeter",
      ("What is the perimeter of the rectangle?", "Find the perimeter."),
      _pose_half_perimeter,
      _draw_rectangle,
      _solve_perimeter,
    ),
  ),
  partitioned=False,
)

# Circles: the length of a radius or of a diameter is given.


def _draw_circle(rng, canvas: Canvas, length: int, whole: bool):
  largest = min(canvas.width, canvas.height) // 2 - 4
  radius = rng.randint(largest - 8, largest)
  x = rng.randint(radius + 3, canvas.width - radius - 4)
  y = rng.randint(radius + 3, canvas.height - radius - 4)
  color, other = rng.sample(COLORS, 2)
  canvas.ring((x, y), radius, color)
  angle = rng.random() * 2 * math.pi
  dx, dy = math.cos(angle), math.sin(angle)
  reach = radius - 1
  end = (x + reach * dx, y + reach * dy)
  start = (x - reach * dx, y - reach * dy) if whole else (x, y)
  canvas.line(start, end, other)
  canvas.dot((x, y), 2, other)
  side = rng.choice((-1, 1))
  middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
  away = 10 + 5 * abs(dy)  # a label is wider than high
  canvas.label(
    str(length), (middle[0] - side * away * dy, middle[1] + side * away * dx)
  )
  return given_numbers(canvas)


def _draw_radius(rng: random.Random, canvas: Canvas, numbers: Numbers):
  return _draw_circle(rng, canvas, numbers[0], whole=False)


def _draw_diameter(rng: random.Random, canvas: Canvas, numbers: Numbers):
  return _draw_circle(rng, canvas, numbers[0], whole=True)


def _solve_diameter(radius: int) -> Worked:
  return Worked(
    answer=str(2 * radius),
    add=plus(radius, radius),
    chain=times(2, radius),
    words=f"given {radius}, so it is twice {radius}",
  )


def _solve_radius(diameter: int) -> Worked:
  radius = diameter // 2
  return Worked(
    answer=str(radius),
    add=f"{diameter}={radius}+{radius}",
    chain=f"{diameter}/2={radius}",
    words=f"given {diameter}, so it is half of {diameter}",
  )


CIRCLE = Family(
  "circle",
  (
    Template(
      "diameter",
      ("What is the diameter of the circle?", "Find the diameter."),
      lambda rng: (rng.randint(2, 49),),
      _draw_radius,
      _solve_diameter,
    ),
    Template(
      "radius",
      ("What is the radius of the circle?", "Find the radius."),
      lambda rng: (2 * rng.randint(2, 49),),
      _draw_diameter,
      _solve_radius,
    ),
  ),
  partitioned=False,
)
