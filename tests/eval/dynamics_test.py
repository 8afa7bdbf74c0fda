"""Figures of what updates do: PNGs of any numbers, empty bins included."""

import numpy as np

from jaxvlm.eval import dynamics

PNG = b"\x89PNG\r\n\x1a\n"


def test_figures_are_pictures():
  rng = np.random.default_rng(0)
  names = ("chosen", "minimally_wrong", "random")
  nan = np.array([np.nan, 0.5, 1.0])
  drawn = [
    dynamics.heat_map(rng.normal(size=(3, 3)), names, names, title="Influence"),
    dynamics.heat_map(np.zeros((3, 3)), names, names, title="Nothing"),
    dynamics.parts_by_margin(
      (0, 0.5, 0.8, 1), nan, 2 * nan, vulnerable=(0.8, 0.99), title="Parts"
    ),
    dynamics.reliability(nan, nan, np.array([0, 0.5, 0.5]), title="DPO"),
  ]
  assert all(picture.png.startswith(PNG) for picture in drawn)
  assert len(set(drawn)) == len(drawn)
