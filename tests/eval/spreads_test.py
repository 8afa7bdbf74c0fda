"""Figures of points and a histogram: they are drawn, with their limits."""

import io

import numpy as np
from PIL import Image

from jaxvlm.eval import spreads


def size(picture):
  return Image.open(io.BytesIO(picture.png)).size


def test_points_and_histograms():
  points = [
    spreads.Point(f"p{i}", 0.1 * i, 0.5, (0.1 * i, 0.2 * i), (0.4, 0.6))
    for i in range(9)  # more than there are colors
  ]
  labels = {"title": "t", "xlabel": "x", "ylabel": "y"}
  drawn = spreads.scatter(points, limit=("threshold", 0.18), **labels)
  counted = spreads.histogram(
    np.array([0.0, 0.1, 1.0]), limits=(("p*", 0.08), ("1 − p*", 0.92)), **labels
  )
  assert size(drawn)[0] == size(counted)[0]  # a long legend makes it higher
  # The line of the limit is part of the picture.
  other = spreads.scatter(points, limit=("threshold", 0.7), **labels)
  assert other.png != drawn.png
