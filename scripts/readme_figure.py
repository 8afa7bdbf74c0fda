"""Puts two figures of a study side by side, small enough for a front page.

  python scripts/readme_figure.py experiments/stage1_entropy/results docs/img/study.png

The figures are those that `make lab SEEDS=3` writes into its folder.
"""  # noqa: E501

import pathlib
import sys

from PIL import Image

FIGURES = ("entropy_evaluated_grpo.png", "accuracy_in_domain.png")
# Lines, bands and their blends; more colors are not seen.
_COLORS = 48


def beside(folder: pathlib.Path) -> Image.Image:
  """Returns the two figures of a study's folder in one picture."""
  parts = [Image.open(folder / name).convert("RGB") for name in FIGURES]
  whole = Image.new(
    "RGB",
    (sum(part.width for part in parts), max(part.height for part in parts)),
    "white",
  )
  left = 0
  for part in parts:
    whole.paste(part, (left, 0))
    left += part.width
  return whole.quantize(_COLORS, dither=Image.Dither.NONE)


if __name__ == "__main__":
  picture = beside(pathlib.Path(sys.argv[1]))
  picture.save(sys.argv[2], optimize=True)
