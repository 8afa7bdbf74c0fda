"""The front page's figure is what its script makes of the study's."""

import numpy as np
from PIL import Image

from scripts import readme_figure
from tests.docs import pages


def test_the_figure_is_made_of_the_studys():
  path = pages.ROOT / "docs/img/study.png"
  made = readme_figure.beside(pages.ROOT / "experiments/stage1_entropy/results")
  assert path.stat().st_size < 60_000
  with Image.open(path) as stored:
    np.testing.assert_array_equal(stored.convert("RGB"), made.convert("RGB"))
