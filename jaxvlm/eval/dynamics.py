"""Figures of what updates do: influence, margins, calibration."""

from collections.abc import Sequence

import numpy as np

from jaxvlm.eval import figures
from jaxvlm.eval.figures import Picture

_WON, _LOST = "#0072B2", "#B5420A"  # of the palette of all figures
_SHADE = "#E69F00"


def heat_map(
  values: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, title: str
) -> Picture:
  """Draws what an update on one class does to another.

  Args:
    values: f[rows, columns], with its sign; colors are symmetric around 0.
    rows: names of what is updated on.
    columns: names of what is observed.
    title: what is shown, and of what.
  """

  def paint(axes):
    bound = float(np.nanmax(np.abs(values))) or 1.0
    axes.imshow(values, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(len(columns)), _short(columns), rotation=30)
    axes.set_yticks(range(len(rows)), _short(rows))
    axes.tick_params(labelsize=5.5)
    for i, j in np.ndindex(*values.shape):
      ink = "white" if abs(values[i, j]) > 0.6 * bound else "black"
      text = f"{values[i, j]:.2g}"
      axes.text(j, i, text, ha="center", va="center", fontsize=5, color=ink)

  return figures.draw(
    paint,
    title=title,
    xlabel="observed",
    ylabel="updated on",
    header=("updated on", *columns),
    numbers=[(row, *of) for row, of in zip(rows, values, strict=True)],
  )


def _short(names: Sequence[str]) -> list[str]:
  return [name.replace("_", "\n") for name in names]


def parts_by_margin(
  edges: Sequence[float],
  winner: np.ndarray,
  loser: np.ndarray,
  *,
  vulnerable: tuple[float, float],
  title: str,
) -> Picture:
  """Draws the winner's and the loser's part of a gradient by the margin.

  Args:
    edges: f[B + 1] of the bins of a = σ(β(Δ_w − Δ_l)).
    winner: f[B] mean norm of the winner's part; NaN where no pair lies.
    loser: f[B] of the loser's.
    vulnerable: the region that is shaded.
    title: what is shown, and of what.
  """
  middle = (np.asarray(edges[1:]) + np.asarray(edges[:-1])) / 2

  def paint(axes):
    axes.axvspan(*vulnerable, color=_SHADE, alpha=0.15, label="vulnerable")
    for values, color, marker, name in (
      (winner, _WON, "o", "winner"),
      (loser, _LOST, "^", "loser"),
    ):
      axes.plot(middle, values, color=color, marker=marker, label=name)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, None)

  return figures.draw(
    paint,
    title=title,
    xlabel="a = σ(β(Δw − Δl)): how far the pair is won",
    ylabel="mean norm of the part\nof a pair's gradient",
    header=("margin", "winner", "loser"),
    numbers=zip(middle, winner, loser, strict=True),
  )


def reliability(
  confidence: np.ndarray,
  accuracy: np.ndarray,
  share: np.ndarray,
  *,
  title: str,
  confidence_of: str = "top-1 probability",
) -> Picture:
  """Draws a reliability diagram; bars of shares stand behind it.

  Args:
    confidence: f[B] mean confidence of a bin; NaN where it is empty.
    accuracy: f[B] share of its predictions that are right.
    share: f[B] of all predictions.
    title: what is shown, and of what.
    confidence_of: what confidence is.
  """
  bins = len(share)

  def paint(axes):
    middle = (np.arange(bins) + 0.5) / bins
    axes.bar(middle, share, 0.9 / bins, color="#cccccc", label="share")
    axes.plot([0, 1], [0, 1], color="#888888", linestyle=":")
    axes.plot(confidence, accuracy, color=_WON, marker="o", label="accuracy")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)

  return figures.draw(
    paint,
    title=title,
    xlabel=confidence_of,
    ylabel="share right",
    header=("confidence", "accuracy", "share"),
    numbers=zip(confidence, accuracy, share, strict=True),
  )
