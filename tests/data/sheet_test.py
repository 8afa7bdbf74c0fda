"""The contact sheet shows pictures as they are, and their texts."""

import numpy as np

from jaxvlm.data import diagrams
from jaxvlm.data.sheet import Card, contact_sheet


def test_contact_sheet_shows_every_picture():
  problems = [diagrams.sample(diagrams.PRETRAIN, at) for at in range(7)]
  cards = [Card(p.image, (p.question, p.answer)) for p in problems]
  sheet = np.asarray(contact_sheet(cards, columns=3))
  doubled = np.repeat(np.repeat(problems[4].image, 2, axis=0), 2, axis=1)
  height, width = doubled.shape[:2]
  step_y, step_x = sheet.shape[0] // 3, sheet.shape[1] // 3
  found = sheet[step_y + 12 :, step_x + 18 :][:height, :width]
  np.testing.assert_array_equal(found, doubled)
  # The texts stand below it.
  assert (sheet[step_y + 12 + 224 : 2 * step_y, step_x + 18 :] < 128).any()
