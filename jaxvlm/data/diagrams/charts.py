"""Out-of-domain families: bar charts, clocks, and dots to count.

Reading order: bars from left to right; a clock's hour, then its minute; dots
on the left half, then on the right half (or upper, then lower).
"""

import functools
import math
import random

from jaxvlm.data.diagrams.canvas import BLACK, CELL, COLORS, Canvas, Color
from jaxvlm.data.diagrams.template import (
  Family,
  Numbers,
  Template,
  Worked,
  minus,
  plus,
)

# Bar charts: three bars, each with its number above.

_BARS = 3
_WIDE = ((112, 84), (112, 112))  # the widths that three numbers need
_SLOT = 3 * CELL  # two cells of label and one that keeps numbers apart


def _pose_bars(rng: random.Random) -> Numbers:
  return tuple(rng.sample(range(2, 61), _BARS))


def _draw_bars(rng: random.Random, canvas: Canvas, numbers: Numbers):
  color = rng.choice(COLORS)
  half = rng.randint(7, 12)
  floor = canvas.height - 6
  canvas.line((2, floor), (canvas.width - 3, floor), (150, 150, 150))
  highest = floor - CELL - 4
  full = rng.randint(max(numbers), 64)
  for at, number in enumerate(numbers):
    middle = CELL + _SLOT * at
    top = floor - max(3, number * highest // full)
    canvas.block(middle - half, top, middle + half, floor, color)
    row = (top - 2) // CELL - 1
    canvas.label(str(number), (middle, CELL * row + CELL // 2))
  return numbers


def _solve_total(a: int, b: int, c: int) -> Worked:
  return Worked(
    answer=str(a + b + c),
    add=f"{plus(a, b)}, {plus(a + b, c)}",
    chain=f"{plus(b, c)}, {plus(a, b + c)}",
    words=f"given {a}, {b} and {c}, so {plus(a + b, c)}",
  )


def _solve_difference(*bars: int) -> Worked:
  high, low = max(bars), min(bars)
  return Worked(
    answer=str(high - low),
    add=f"{high}={low}+{high - low}",
    chain=minus(high, low),
    words=f"given {high} and {low}, so {minus(high, low)}",
  )


def _solve_largest(a: int, b: int, c: int) -> Worked:
  larger, largest = max(a, b), max(a, b, c)
  return Worked(
    answer=str(largest),
    add=f"{a}, {b}, {c}",
    chain=(
      f"larger of {a} and {b} is {larger},"
      f" larger of {larger} and {c} is {largest}"
    ),
    words=f"given {a}, {b} and {c}, so {largest}",
  )


BARS = Family(
  "bars",
  tuple(
    Template(name, questions, _pose_bars, _draw_bars, solve, _WIDE)
    for name, questions, solve in (
      (
        "total",
        ("What is the total of all bars?", "Add up all bars."),
        _solve_total,
      ),
      (
        "difference",
        (
          "How much taller is the tallest bar than the shortest?",
          "Find the difference between tallest and shortest bar.",
        ),
        _solve_difference,
      ),
      (
        "largest",
        ("What is the largest value?", "Which number has the tallest bar?"),
        _solve_largest,
      ),
    )
  ),
  partitioned=True,
)

# Clocks: no digits, a tick for each hour and a longer one on top.

_HOUR_COLOR: Color = (215, 60, 50)
_MINUTE_COLOR: Color = (40, 90, 200)


def _pose_time(rng: random.Random) -> Numbers:
  return rng.randint(1, 12), 15 * rng.randrange(4)


def _draw_clock(rng: random.Random, canvas: Canvas, numbers: Numbers):
  hour, minute = numbers
  radius = min(canvas.width, canvas.height) // 2 - 4 - rng.randrange(5)
  x = rng.randint(radius + 3, canvas.width - radius - 4)
  y = rng.randint(radius + 3, canvas.height - radius - 4)

  def hand(turn: float, start: float, end: float, color: Color, thickness: int):
    dx, dy = math.sin(2 * math.pi * turn), -math.cos(2 * math.pi * turn)
    canvas.line(
      (x + start * dx, y + start * dy),
      (x + end * dx, y + end * dy),
      color,
      thickness,
    )

  canvas.ring((x, y), radius, rng.choice(COLORS))
  for tick in range(12):
    length = 9 if tick == 0 else 5
    hand(tick / 12, radius - length, radius - 3, BLACK, 2)
  hand((hour + minute / 60) / 12, 0, 0.5 * radius, _HOUR_COLOR, 5)
  hand(minute / 60, 0, 0.75 * radius, _MINUTE_COLOR, 2)
  canvas.dot((x, y), 3, BLACK)
  return numbers


def _solve_clock(hour: int, minute: int) -> Worked:
  tick = minute // 5
  return Worked(
    answer=f"{hour}:{minute:02d}",
    add=f"{hour} hours and {minute} minutes",
    chain=f"long hand {tick}*5={minute}, short hand {hour}",
    words=f"given hour {hour}, so {minute} past {hour}",
  )


CLOCK = Family(
  "clock",
  (
    Template(
      "time",
      ("What time is it?", "Read the clock."),
      _pose_time,
      _draw_clock,
      _solve_clock,
    ),
  ),
  partitioned=False,
)

# Counting: dots of two colors; the question names one of them.

_DOTS: dict[str, Color] = {
  "red": (215, 60, 50),
  "blue": (40, 90, 200),
  "green": (60, 165, 75),
}


def _pose_dots(rng: random.Random) -> Numbers:
  return rng.randint(1, 9), rng.randint(1, 7)


def _draw_dots(
  color: str, rng: random.Random, canvas: Canvas, numbers: Numbers
):
  asked, other = numbers
  columns, rows = canvas.width // CELL, canvas.height // CELL
  spots = rng.sample(range(columns * rows), asked + other)
  distractor = rng.choice([name for name in _DOTS if name != color])
  radius = rng.randint(4, 5)
  left = 0
  for at, spot in enumerate(spots):
    row, column = divmod(spot, columns)
    center = (CELL * column + CELL // 2, CELL * row + CELL // 2)
    canvas.dot(center, radius, _DOTS[color if at < asked else distractor])
    left += at < asked and 2 * column < columns
  return left, asked - left


def _solve_dots(left: int, right: int) -> Worked:
  total = left + right
  return Worked(
    answer=str(total),
    add=plus(left, right),
    chain=", ".join(str(count + 1) for count in range(total)),
    words=f"given {left} left and {right} right, so {total}",
  )


COUNTING = Family(
  "counting",
  tuple(
    Template(
      color,
      (f"How many {color} dots are there?", f"Count the {color} dots."),
      _pose_dots,
      functools.partial(_draw_dots, color),
      _solve_dots,
    )
    for color in _DOTS
  ),
  partitioned=False,
)
