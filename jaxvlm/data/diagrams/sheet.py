"""A contact sheet of the world, for a person to look at: `jaxvlm world`."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from jaxvlm.data.diagrams.problem import STYLES, Problem

_ZOOM = 2
_PICTURE = 112 * _ZOOM
_WIDTH = _PICTURE + 36
_LINE = 15
_LINES = 8
_HEIGHT = _PICTURE + _LINE * _LINES + 30
_FRAME = (205, 205, 205)


def contact_sheet(problems: Sequence[Problem], columns: int) -> Image.Image:
  """Returns a sheet of problems: picture, question, answer, one solution.

  Args:
    problems: what to show, row by row; the style of the solution shown
      changes from one problem to the next.
    columns: problems in a row.
  """
  rows = -(-len(problems) // columns)
  sheet = Image.new("RGB", (columns * _WIDTH, rows * _HEIGHT), "white")
  draw = ImageDraw.Draw(sheet)
  font = ImageFont.load_default(12)
  for at, problem in enumerate(problems):
    left = at % columns * _WIDTH + 18
    top = at // columns * _HEIGHT + 12
    height, width = problem.image.shape[:2]
    picture = Image.fromarray(problem.image).resize(
      (width * _ZOOM, height * _ZOOM), Image.Resampling.NEAREST
    )
    sheet.paste(picture, (left, top))
    draw.rectangle(
      (left - 1, top - 1, left + picture.width, top + picture.height),
      outline=_FRAME,
    )
    style = STYLES[at % len(STYLES)]
    lines = [
      f"{problem.family}, difficulty {problem.difficulty}",
      *textwrap.wrap(problem.question, 36),
      f"answer: {problem.answer}",
      *textwrap.wrap(f"{style}: {problem.solutions[style]}", 36),
    ]
    y = top + picture.height + 6
    for line in lines:
      draw.text((left, y), line, fill="black", font=font)
      y += _LINE
  return sheet
