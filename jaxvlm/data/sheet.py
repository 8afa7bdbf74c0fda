"""A contact sheet of generated pictures, for a person to look at."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_ZOOM = 2
_PICTURE = 112 * _ZOOM
_WIDTH = _PICTURE + 36
_LINE = 15
_COLUMN = 36  # characters
_FRAME = (205, 205, 205)


class Card(NamedTuple):
  """A picture, at most 112 pixels wide and high, and what is said under it."""

  image: np.ndarray
  texts: Sequence[str]


def contact_sheet(cards: Sequence[Card], columns: int) -> Image.Image:
  """Returns a sheet of pictures, doubled, with their texts.

  Args:
    cards: what to show, row by row.
    columns: cards in a row.
  """
  texts = [
    [line for text in card.texts for line in textwrap.wrap(text, _COLUMN)]
    for card in cards
  ]
  each = _PICTURE + _LINE * max(map(len, texts)) + 30
  rows = -(-len(cards) // columns)
  sheet = Image.new("RGB", (columns * _WIDTH, rows * each), "white")
  draw = ImageDraw.Draw(sheet)
  font = ImageFont.load_default(12)
  for at, (card, lines) in enumerate(zip(cards, texts, strict=True)):
    left = at % columns * _WIDTH + 18
    top = at // columns * each + 12
    height, width = card.image.shape[:2]
    picture = Image.fromarray(card.image).resize(
      (width * _ZOOM, height * _ZOOM), Image.Resampling.NEAREST
    )
    sheet.paste(picture, (left, top))
    draw.rectangle(
      (left - 1, top - 1, left + picture.width, top + picture.height),
      outline=_FRAME,
    )
    y = top + picture.height + 6
    for line in lines:
      draw.text((left, y), line, fill="black", font=font)
      y += _LINE
  return sheet
