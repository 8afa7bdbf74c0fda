"""Panels: their numbers beside them, and a legend that fits."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from jaxvlm.eval import dynamics, figures, spreads
from jaxvlm.eval.figures import Curve, Level, Style


def _curves(count: int, name: str = "an arm"):
  x = np.arange(3)
  return [
    Curve(Style(f"{name} {i}", "#0072B2"), x, x * 0.5 + i) for i in range(count)
  ]


def _panel(curves, **more):
  return figures.panel(curves, title="T", xlabel="x", ylabel="y", **more)


def _lines(picture):
  return list(csv.reader(io.StringIO(picture.csv)))


def _size(picture):
  return Image.open(io.BytesIO(picture.png)).size


def test_a_panel_has_its_numbers_beside_it():
  (plain,) = _curves(1)
  banded = Curve(plain.style, plain.x, plain.y, plain.y - 1, plain.y + 1)
  picture = _panel([plain, banded], levels=[Level("teacher, 72B", 0.25)])
  assert _lines(picture) == [
    ["curve", "x", "y", "low", "high"],
    ["an arm 0", "0", "0", "", ""],
    ["an arm 0", "1", "0.5", "", ""],
    ["an arm 0", "2", "1", "", ""],
    ["an arm 0", "0", "0", "-1", "1"],
    ["an arm 0", "1", "0.5", "-0.5", "1.5"],
    ["an arm 0", "2", "1", "0", "2"],
    ["teacher, 72B", "", "0.25", "", ""],
  ]


def test_nothing_to_draw_is_no_picture():
  assert not _panel([])
  assert _panel(_curves(1))


def test_rows_of_a_legend_make_a_panel_higher_and_the_axes_no_smaller():
  few, many = _panel(_curves(2)), _panel(_curves(14, "a name of an arm"))
  (width, height), (same, taller) = _size(few), _size(many)
  assert same == width and taller > height * 1.1


@pytest.mark.parametrize(
  ("picture", "header", "first"),
  [
    (
      dynamics.heat_map(np.eye(2), ("u", "v"), ("a", "b"), title="T"),
      ["updated on", "a", "b"],
      ["u", "1", "0"],
    ),
    (
      dynamics.parts_by_margin(
        [0, 0.5, 1],
        np.array([2.0, 1.0]),
        np.array([3.0, np.nan]),
        vulnerable=(0.8, 0.9),
        title="T",
      ),
      ["margin", "winner", "loser"],
      ["0.25", "2", "3"],
    ),
    (
      dynamics.reliability(
        np.array([0.2]), np.array([0.3]), np.array([1.0]), title="T"
      ),
      ["confidence", "accuracy", "share"],
      ["0.2", "0.3", "1"],
    ),
    (
      spreads.histogram(
        np.array([0.125, 0.5]), title="T", xlabel="p", ylabel="n", limits=()
      ),
      ["p"],
      ["0.125"],
    ),
    (
      spreads.scatter(
        [spreads.Point("a", 1.0, 2.0, (0.5, 1.5), (1.0, 3.0))],
        title="T",
        xlabel="x",
        ylabel="y",
        limit=("l", 0.5),
      ),
      ["name", "x", "y", "x low", "x high", "y low", "y high"],
      ["a", "1", "2", "0.5", "1.5", "1", "3"],
    ),
  ],
)
def test_every_kind_of_figure_has_its_numbers(picture, header, first):
  assert _lines(picture)[:2] == [header, first]
