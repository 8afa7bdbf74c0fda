"""Families about angles: triangles of all kinds and parallel lines.

Pictures are roughly to scale: drawn angles are pulled toward the middle of
their range, so that every angle has room for its label, while the larger
number still stands in the larger angle. What counts is the number.

Reading order: top to bottom, then left to right; where an exterior angle is
given, it comes first (it is the larger number).
"""

import math
import random

from jaxvlm.data.diagrams.canvas import COLORS, Canvas, Color, Point, clearance
from jaxvlm.data.diagrams.template import (
  LARGE_SIZES,
  Family,
  Numbers,
  Template,
  Worked,
  complement,
  given_numbers,
  minus,
  plus,
  sum_of,
)

_MARGIN = 3
_LONGEST_REACH = 32  # pixels from a vertex to the middle of its label


def _toward(middle: float, angle: float, share: float = 0.4) -> float:
  return middle + share * (angle - middle)


def _place(points: list[Point], canvas: Canvas, rng: random.Random):
  """Turns, mirrors and scales points to fill the canvas; moves what is left.

  Of four random turns it takes the one that gives the largest figure.
  """
  flip = rng.choice((-1, 1))
  turns = [rng.random() * 2 * math.pi for _ in range(4)]
  return max(
    (_fitted(points, turn, flip, canvas, rng) for turn in turns),
    key=lambda fitted: fitted[0],
  )[1]


def _fitted(points, turn, flip, canvas: Canvas, rng: random.Random):
  """Returns (scale, points turned and scaled into the canvas)."""
  c, s = math.cos(turn), math.sin(turn)
  points = [(flip * (c * x - s * y), s * x + c * y) for x, y in points]
  xs, ys = [x for x, _ in points], [y for _, y in points]
  room_x, room_y = canvas.width - 2 * _MARGIN, canvas.height - 2 * _MARGIN
  wide, high = max(xs) - min(xs), max(ys) - min(ys)
  scale = min(room_x / wide, room_y / high)
  left = _MARGIN + rng.random() * (room_x - scale * wide) - scale * min(xs)
  top = _MARGIN + rng.random() * (room_y - scale * high) - scale * min(ys)
  return scale, [(left + scale * x, top + scale * y) for x, y in points]


def _triangle(at_b: float, at_c: float) -> list[Point]:
  """Returns corners A, B, C with these angles (degrees) at B and C."""
  b, c = math.radians(at_b), math.radians(at_c)
  side = math.sin(c) / math.sin(b + c)
  return [(side * math.cos(b), side * math.sin(b)), (0.0, 0.0), (1.0, 0.0)]


def _toward_point(start: Point, end: Point) -> Point:
  dx, dy = end[0] - start[0], end[1] - start[1]
  length = math.hypot(dx, dy)
  return dx / length, dy / length


def _label_angle(
  canvas: Canvas, text: str, first: Point, vertex: Point, second: Point
):
  """Writes `text` into the angle first-vertex-second, close to the vertex.

  On the bisector, at the distance where the label fits between the legs.
  """
  x, y = vertex
  ux, uy = _toward_point(vertex, first)
  vx, vy = _toward_point(vertex, second)
  # Normals of the legs that point into the angle.
  turn = 1 if ux * vy - uy * vx > 0 else -1
  normals = (-turn * uy, turn * ux), (turn * vy, -turn * vx)
  bx, by = ux + vx, uy + vy
  length = math.hypot(bx, by)
  bx, by = bx / length, by / length
  reach = max(
    clearance(len(text), nx, ny) / (bx * nx + by * ny) for nx, ny in normals
  )
  reach = min(reach, _LONGEST_REACH)
  canvas.label(
    text,
    (x + reach * bx, y + reach * by),
    [(x, y, nx, ny) for nx, ny in normals],
  )


def _label_corners(canvas: Canvas, corners: list[Point], texts: list[str]):
  """Labels the angles of a triangle; an empty text labels nothing."""
  for at, text in enumerate(texts):
    if text:
      _label_angle(canvas, text, corners[at - 1], corners[at], corners[at - 2])


def _ticks(canvas: Canvas, start: Point, end: Point, color: Color):
  """Marks a side with a short stroke across its middle: equal sides."""
  ux, uy = _toward_point(start, end)
  x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
  canvas.line((x - 4 * uy, y + 4 * ux), (x + 4 * uy, y - 4 * ux), color)


# Angle sum of a triangle.


def _pose_two_angles(rng: random.Random) -> Numbers:
  """Draws two angles, one of them in whole tens.

  Adding any two numbers digit by digit takes a model below a million
  parameters longer than learning to read; with whole tens nothing carries.
  """
  tens = 10 * rng.randint(2, 11)
  pair = [tens, rng.randint(20, min(110, 160 - tens))]
  rng.shuffle(pair)
  return tuple(pair)


def _draw_third(rng: random.Random, canvas: Canvas, numbers: Numbers):
  a, b = numbers
  points = _triangle(_toward(60, a), _toward(60, b))
  corners = _place(points, canvas, rng)
  canvas.polygon(corners, rng.choice(COLORS))
  _label_corners(canvas, corners, ["x", str(a), str(b)])
  return given_numbers(canvas)


def _solve_third(a: int, b: int) -> Worked:
  rest = 180 - a - b
  return Worked(
    answer=str(rest),
    add=f"{plus(a, b)}, {minus(180, a + b)}",
    chain=f"{minus(180, a)}, {minus(180 - a, b)}",
    words=f"given {a} and {b}, so x is {minus(180, a + b)}",
  )


TRIANGLE = Family(
  "triangle",
  (
    Template(
      "third",
      (
        "Find the third angle x.",
        "What is the missing angle of the triangle?",
        "How large is angle x of this triangle?",
      ),
      _pose_two_angles,
      _draw_third,
      _solve_third,
      LARGE_SIZES,
    ),
  ),
  partitioned=True,
)

# Isosceles triangle: A is the apex, the sides AB and AC are equal.


def _draw_isosceles(rng, canvas: Canvas, base: int, texts: list[str]):
  drawn = _toward(55, base, 0.6)
  corners = _place(_triangle(drawn, drawn), canvas, rng)
  color = rng.choice(COLORS)
  canvas.polygon(corners, color)
  _ticks(canvas, corners[0], corners[1], color)
  _ticks(canvas, corners[0], corners[2], color)
  _label_corners(canvas, corners, texts)
  return given_numbers(canvas)


def _pose_apex(rng: random.Random) -> Numbers:
  return (2 * rng.randint(10, 70),)


def _draw_apex_given(rng: random.Random, canvas: Canvas, numbers: Numbers):
  apex = numbers[0]
  texts = [str(apex), *rng.choice((["x", ""], ["", "x"]))]
  return _draw_isosceles(rng, canvas, (180 - apex) // 2, texts)


def _solve_base(apex: int) -> Worked:
  rest = 180 - apex
  return Worked(
    answer=str(rest // 2),
    add=f"{minus(180, apex)}, {rest}/2={rest // 2}",
    chain=f"{apex}/2={apex // 2}, {minus(90, apex // 2)}",
    words=f"given {apex}, so x is half of {minus(180, apex)}",
  )


def _pose_base(rng: random.Random) -> Numbers:
  return (rng.randint(20, 80),)


def _draw_base_given(rng: random.Random, canvas: Canvas, numbers: Numbers):
  base = str(numbers[0])
  texts = ["x", *rng.choice(([base, ""], ["", base]))]
  return _draw_isosceles(rng, canvas, numbers[0], texts)


def _solve_apex(base: int) -> Worked:
  return Worked(
    answer=str(180 - 2 * base),
    add=f"{plus(base, base)}, {minus(180, 2 * base)}",
    chain=f"{minus(180, base)}, {minus(180 - base, base)}",
    words=f"given {base} twice, so x is {minus(180, 2 * base)}",
  )


ISOSCELES = Family(
  "isosceles",
  (
    Template(
      "base",
      (
        "Two sides are equal. Find the base angle x.",
        "What is the base angle x of the isosceles triangle?",
      ),
      _pose_apex,
      _draw_apex_given,
      _solve_base,
    ),
    Template(
      "apex",
      (
        "Two sides are equal. Find the apex angle x.",
        "What is the apex angle x of the isosceles triangle?",
      ),
      _pose_base,
      _draw_base_given,
      _solve_apex,
    ),
  ),
  partitioned=False,
)

# Exterior angle: the side BC goes on beyond C to D; outer = ACD.


def _draw_exterior(rng, canvas: Canvas, a: int, b: int, texts: list[str]):
  drawn_b, drawn_c = _toward(60, b, 0.25), _toward(60, 180 - a - b, 0.25)
  points = [*_triangle(drawn_b, drawn_c), (1.3, 0.0)]
  *corners, beyond = _place(points, canvas, rng)
  color = rng.choice(COLORS)
  canvas.polygon(corners, color)
  canvas.line(corners[2], beyond, color)
  _label_angle(canvas, texts[2], corners[0], corners[2], beyond)
  _label_corners(canvas, corners, texts[:2] + [""])


def _draw_outer(rng: random.Random, canvas: Canvas, numbers: Numbers):
  a, b = numbers
  _draw_exterior(rng, canvas, a, b, [str(a), str(b), "x"])
  return given_numbers(canvas)


def _draw_remote(rng: random.Random, canvas: Canvas, numbers: Numbers):
  outer, given = numbers
  texts = rng.choice(([str(given), "x"], ["x", str(given)]))
  a, b = (given, outer - given)
  if texts[0] == "x":
    a, b = b, a
  _draw_exterior(rng, canvas, a, b, [*texts, str(outer)])
  return numbers


def _pose_remote(rng: random.Random) -> Numbers:
  a, b = _pose_two_angles(rng)
  return a + b, a


def _solve_remote(outer: int, given: int) -> Worked:
  rest = outer - given
  return Worked(
    answer=str(rest),
    add=f"{outer}={given}+{rest}",
    chain=complement(outer, given).chain,
    words=f"given {outer} and {given}, so x is {minus(outer, given)}",
  )


EXTERIOR = Family(
  "exterior",
  (
    Template(
      "outer",
      (
        "Find the exterior angle x.",
        "What is the angle x outside the triangle?",
      ),
      _pose_two_angles,
      _draw_outer,
      sum_of,
      LARGE_SIZES,
    ),
    Template(
      "remote",
      (
        "An exterior angle is given. Find the inner angle x.",
        "What is the angle x inside the triangle?",
      ),
      _pose_remote,
      _draw_remote,
      _solve_remote,
      LARGE_SIZES,
    ),
  ),
  partitioned=True,
)

# Right triangle: the right angle is at C.


def _draw_right(rng: random.Random, canvas: Canvas, numbers: Numbers):
  points = _triangle(_toward(45, numbers[0], 0.4), 90)
  corners = _place(points, canvas, rng)
  color = rng.choice(COLORS)
  canvas.polygon(corners, color)
  a, b, (x, y) = corners
  (ux, uy), (vx, vy) = _toward_point((x, y), a), _toward_point((x, y), b)
  first = (x + 9 * ux, y + 9 * uy)
  second = (x + 9 * vx, y + 9 * vy)
  middle = (first[0] + 9 * vx, first[1] + 9 * vy)
  canvas.line(first, middle, color, 1)
  canvas.line(middle, second, color, 1)
  _label_corners(canvas, corners, ["x", str(numbers[0]), ""])
  return given_numbers(canvas)


def _solve_right(given: int) -> Worked:
  return complement(90, given)


RIGHT = Family(
  "right",
  (
    Template(
      "other",
      (
        "The triangle has a right angle. Find x.",
        "What is the other acute angle x of the right triangle?",
      ),
      lambda rng: (rng.randint(10, 80),),
      _draw_right,
      _solve_right,
    ),
  ),
  partitioned=False,
)

# Parallel lines: a transversal (inner angles on one side), or a bend.


def _draw_inner(rng: random.Random, canvas: Canvas, numbers: Numbers):
  slope = 1 / math.tan(math.radians(_toward(90, numbers[0])))
  # Lines y = ±0.5; the transversal leaves the upper one at the given angle
  # on the side of positive x.
  top, low = (-slope / 2, -0.5), (slope / 2, 0.5)
  over = 0.35
  points = [
    (-0.85, -0.5),
    (0.85, -0.5),
    (-0.85, 0.5),
    (0.85, 0.5),
    top,
    low,
    (top[0] - over * slope, top[1] - over),
    (low[0] + over * slope, low[1] + over),
  ]
  left, right, below_left, below_right, top, low, start, end = _place(
    points, canvas, rng
  )
  color, other = rng.sample(COLORS, 2)
  canvas.line(left, right, color)
  canvas.line(below_left, below_right, color)
  canvas.line(start, end, other)
  texts = [str(numbers[0]), "x"]
  _label_angle(canvas, texts[0], right, top, low)
  _label_angle(canvas, texts[1], top, low, below_right)
  return given_numbers(canvas)


def _solve_inner(given: int) -> Worked:
  return complement(180, given)


def _pose_bend(rng: random.Random) -> Numbers:
  pair = [10 * rng.randint(2, 7), rng.randint(15, 75)]
  rng.shuffle(pair)
  return tuple(pair)


def _draw_bend(rng: random.Random, canvas: Canvas, numbers: Numbers):
  a, b = (_toward(48, number) for number in numbers)
  reach_a = 0.5 / math.tan(math.radians(a))
  reach_b = 0.5 / math.tan(math.radians(b))
  upper, bend, lower = (reach_a, -0.5), (0.0, 0.0), (reach_b, 0.5)
  points = [(-0.3, -0.5), upper, (-0.3, 0.5), lower, bend]
  far_up, upper, far_low, lower, bend = _place(points, canvas, rng)
  color, other = rng.sample(COLORS, 2)
  canvas.line(far_up, upper, color)
  canvas.line(far_low, lower, color)
  canvas.line(upper, bend, other)
  canvas.line(bend, lower, other)
  _label_angle(canvas, "x", upper, bend, lower)
  _label_angle(canvas, str(numbers[0]), far_up, upper, bend)
  _label_angle(canvas, str(numbers[1]), far_low, lower, bend)
  return given_numbers(canvas)


PARALLEL = Family(
  "parallel",
  (
    Template(
      "inner",
      (
        "Two lines are parallel. Find the inner angle x.",
        "One line crosses two parallel lines. What is x?",
      ),
      lambda rng: (rng.randint(30, 150),),
      _draw_inner,
      _solve_inner,
    ),
    Template(
      "bend",
      (
        "Two lines are parallel. Find the bend x.",
        "A path bends between two parallel lines. What is x?",
      ),
      _pose_bend,
      _draw_bend,
      sum_of,
      LARGE_SIZES,
    ),
  ),
  partitioned=True,
)
