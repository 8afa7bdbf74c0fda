"""Figures of a report: one panel, one PNG, the same look everywhere.

A panel is a picture of its own, so that a page can put several side by side
on a wide screen and one below the other on a narrow one, legible in both.
Nothing here touches pyplot: no global state, nothing kept after drawing.
"""

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends import backend_agg
from matplotlib.figure import Figure

# Inches; sharp on a dense screen and in print, small enough to inline.
_SIZE = (4.8, 3.3)
_DPI = 160
_AXES = (0.175, 0.145, 0.80, 0.67)  # left, bottom, width, height: shares
_POINTS = 72  # an inch
_PAD = 24  # points from the axes to the title: a legend of one row
_MOST_COLUMNS = 5
_INK = "#333333"
_LOOK = {
  "font.family": "DejaVu Sans",
  "font.size": 9.0,
  "axes.titlesize": 9.5,
  "axes.titleweight": "bold",
  "axes.titlelocation": "left",
  "axes.labelsize": 8.5,
  "axes.edgecolor": "#888888",
  "axes.labelcolor": _INK,
  "axes.titlecolor": _INK,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.axisbelow": True,
  "grid.color": "#e6e6e6",
  "grid.linewidth": 0.7,
  "xtick.color": _INK,
  "ytick.color": _INK,
  "xtick.labelsize": 8.5,
  "ytick.labelsize": 8.5,
  "legend.fontsize": 8.0,
  "legend.frameon": False,
  "lines.linewidth": 1.8,
  "lines.markersize": 4.0,
}


@dataclasses.dataclass(frozen=True)
class Style:
  """How one arm looks in every figure.

  Attributes:
    label: its name in legends.
    color: a color that color-blind readers tell apart from the others.
    marker: the same distinction without color.
    dash: matplotlib line style.
  """

  label: str
  color: str
  marker: str = "o"
  dash: str = "-"


@dataclasses.dataclass(frozen=True)
class Curve:
  """One line of a panel.

  Attributes:
    style: color, marker and legend.
    x: f[n] where.
    y: f[n] the line.
    low: f[n] lower edge of the band; None draws none.
    high: f[n] upper edge.
    faint: f[n] a raw series drawn thinly behind; None draws none.
    markers: whether points are marked, as they are where they are few.
  """

  style: Style
  x: np.ndarray
  y: np.ndarray
  low: np.ndarray | None = None
  high: np.ndarray | None = None
  faint: np.ndarray | None = None
  markers: bool = True


@dataclasses.dataclass(frozen=True)
class Level:
  """A horizontal line to compare with, such as a teacher's score."""

  label: str
  y: float


class Picture(NamedTuple):
  """One panel; false where there was nothing to draw.

  Attributes:
    png: the picture.
    csv: its numbers, a line for each point.
  """

  png: bytes
  csv: str

  def __bool__(self) -> bool:
    return bool(self.png)


def panel(
  curves: Sequence[Curve],
  *,
  title: str,
  xlabel: str,
  ylabel: str,
  levels: Sequence[Level] = (),
  ylim: tuple[float, float | None] | None = None,
  percent: bool = False,
  doubling_x: bool = False,
) -> Picture:
  """Draws one panel.

  Args:
    curves: lines with their bands.
    title: what is shown, and on what.
    xlabel: quantity of the x axis.
    ylabel: quantity and unit of the y axis.
    levels: horizontal lines.
    ylim: limits, as to share between panels that are compared; an upper
      None is fitted.
    percent: y is a fraction to be written as a percentage.
    doubling_x: x is 1, 2, 4, … and each doubling is one step.

  Returns:
    The picture; an empty one without a curve.
  """
  if not curves:
    return Picture(b"", "")

  def paint(axes):
    for curve in curves:
      _draw(axes, curve)
    for level in levels:
      axes.axhline(
        level.y, color=_INK, linestyle=":", linewidth=1.3, label=level.label
      )
    if ylim is not None:
      low, high = ylim
      axes.set_ylim(low, 1.1 * axes.get_ylim()[1] if high is None else high)
    if percent:
      axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    else:
      # No common factor in the corner, where the legend stands.
      axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True))
    if doubling_x:
      axes.set_xscale("log", base=2)
      ticks = sorted({float(x) for curve in curves for x in curve.x})
      axes.xaxis.set_major_locator(ticker.FixedLocator(ticks))
      axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%d"))

  return draw(
    paint,
    title=title,
    xlabel=xlabel,
    ylabel=ylabel,
    header=("curve", "x", "y", "low", "high"),
    numbers=[*_points(curves), *((each.label, "", each.y) for each in levels)],
  )


def _points(curves: Sequence[Curve]) -> list[tuple]:
  """Returns (curve, x, y, low, high) of every point; empty without a band."""
  out = []
  for curve in curves:
    nothing = [""] * len(curve.x)
    low = nothing if curve.low is None else curve.low
    high = nothing if curve.high is None else curve.high
    for values in zip(curve.x, curve.y, low, high, strict=True):
      out.append((curve.style.label, *values))
  return out


def draw(
  paint: Callable[[Axes], None],
  *,
  title: str,
  xlabel: str,
  ylabel: str,
  header: Sequence[str],
  numbers: Iterable[Sequence[Any]],
) -> Picture:
  """Draws one panel of any kind in the look of all.

  Args:
    paint: draws into the axes; what it labels is in the legend.
    title: what is shown, and on what.
    xlabel: quantity of the x axis.
    ylabel: quantity and unit of the y axis.
    header: names of the numbers' columns.
    numbers: what was drawn, rows of at most as many cells.
  """
  with matplotlib.rc_context(_LOOK):
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white")
    backend_agg.FigureCanvasAgg(figure)
    axes = figure.add_axes(_AXES)
    paint(axes)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    rows = _add_legend(axes)
    axes.set_title(title, pad=_PAD + rows)
    # Further rows of the legend make the picture higher, not the axes smaller.
    (width, height), (left, bottom, wide, high) = _SIZE, _AXES
    taller = height + rows / _POINTS
    figure.set_size_inches(width, taller)
    share = height / taller
    axes.set_position((left, bottom * share, wide, high * share))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
  return Picture(buffer.getvalue(), _csv(header, numbers))


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(header)
  for row in rows:
    cells = [f"{x:.6g}" if isinstance(x, float) else x for x in row]
    writer.writerow(cells + [""] * (len(header) - len(cells)))
  return text.getvalue()


def _add_legend(axes: Axes) -> float:
  """Puts a legend above the axes; returns points that it is above one row."""
  if not axes.get_legend_handles_labels()[0]:
    return 0.0
  figure = axes.get_figure()
  for columns in range(_MOST_COLUMNS, 0, -1):
    legend = axes.legend(
      loc="lower left",
      bbox_to_anchor=(-0.02, 0.985),
      ncols=columns,
      borderaxespad=0.0,
      handlelength=1.6,
      handletextpad=0.4,
      columnspacing=1.0,
    )
    box = legend.get_window_extent(figure.canvas.get_renderer())
    if box.x1 <= figure.bbox.x1:
      break
  return max(0.0, box.height * _POINTS / figure.dpi - _PAD)


def _draw(axes, curve: Curve) -> None:
  style = curve.style
  if curve.low is not None and curve.high is not None:
    axes.fill_between(
      curve.x, curve.low, curve.high, color=style.color, alpha=0.16, linewidth=0
    )
  if curve.faint is not None:
    axes.plot(
      curve.x, curve.faint, color=style.color, alpha=0.28, linewidth=0.7
    )
  axes.plot(
    curve.x,
    curve.y,
    color=style.color,
    linestyle=style.dash,
    marker=style.marker if curve.markers else None,
    label=style.label,
  )


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
  """Returns the centered mean over `window` neighbors, fewer at the ends.

  Args:
    values: f[n]; a NaN is left out of the means.
    window: odd number of neighbors, itself included.

  Raises:
    ValueError: the window is even or not positive.
  """
  if window < 1 or window % 2 == 0:
    raise ValueError(f"window: got {window}, expected an odd number from 1")
  known = np.isfinite(values)
  kernel = np.ones(window)
  half = window // 2
  total = np.convolve(np.where(known, values, 0.0), kernel)
  count = np.convolve(known.astype(float), kernel)
  total, count = (a[half : half + len(values)] for a in (total, count))
  return np.divide(
    total, count, out=np.full(len(values), np.nan), where=count > 0.5
  )
