"""Figures of how checkpoints and problems lie: points and a histogram."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvlm.eval import figures
from jaxvlm.eval.figures import Picture

_COLORS = (
  "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
)  # fmt: skip
_MARKERS = "os^Dv<>"


class Point(NamedTuple):
  """One thing at a place, with (low, high) of both coordinates."""

  label: str
  x: float
  y: float
  x_ends: tuple[float, float]
  y_ends: tuple[float, float]


def scatter(
  points: Sequence[Point],
  *,
  title: str,
  xlabel: str,
  ylabel: str,
  limit: tuple[str, float],
) -> Picture:
  """Draws points with their intervals and a vertical limit.

  Args:
    points: what is compared.
    title: what is shown.
    xlabel: quantity and unit of x.
    ylabel: quantity and unit of y.
    limit: (label, x) of the line.
  """

  def paint(axes) -> None:
    for number, point in enumerate(points):
      spreads = [
        [[max(0.0, value - low)], [max(0.0, high - value)]]
        for value, (low, high) in (
          (point.x, point.x_ends), (point.y, point.y_ends)
        )
      ]  # fmt: skip
      axes.errorbar(
        [point.x],
        [point.y],
        xerr=spreads[0],
        yerr=spreads[1],
        color=_COLORS[number % len(_COLORS)],
        marker=_MARKERS[number % len(_MARKERS)],
        linestyle="",
        elinewidth=1.0,
        markersize=6,
        label=point.label,
      )
    label, x = limit
    axes.axvline(x, color="#333333", linestyle=":", linewidth=1.3, label=label)
    axes.set_xlim(left=0)

  return figures.draw(
    paint,
    title=title,
    xlabel=xlabel,
    ylabel=ylabel,
    header=("name", "x", "y", "x low", "x high", "y low", "y high"),
    numbers=[(p.label, p.x, p.y, *p.x_ends, *p.y_ends) for p in points],
  )


def histogram(
  values: np.ndarray,
  *,
  title: str,
  xlabel: str,
  ylabel: str,
  limits: Sequence[tuple[str, float]],
) -> Picture:
  """Draws how many values lie where between 0 and 1, and vertical limits.

  Args:
    values: f[n] between 0 and 1.
    title: what is shown.
    xlabel: quantity of the values.
    ylabel: what is counted.
    limits: (label, x) of each line.
  """

  def paint(axes) -> None:
    axes.hist(values, bins=np.linspace(0, 1, 21), color=_COLORS[0], alpha=0.75)
    for (label, x), dash in zip(limits, (":", "--", "-."), strict=False):
      axes.axvline(
        x, color="#333333", linestyle=dash, linewidth=1.3, label=label
      )

  return figures.draw(
    paint,
    title=title,
    xlabel=xlabel,
    ylabel=ylabel,
    header=(xlabel,),
    numbers=[(float(value),) for value in values],
  )
