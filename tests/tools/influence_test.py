"""`jaxvlm influence`: means over pairs of classes, and the command itself."""

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from jaxvlm.data import scenes
from jaxvlm.data.sources.caption_probes import ProbeCaptions
from jaxvlm.data.sources.scenes import SceneRows
from jaxvlm.diagnostics.squeezing import Squeeze
from tests import tiny

COMMAND = "influence"

N, K = 3, 2


def test_means_are_over_pairs_of_one_picture_or_of_two(command):
  rng = np.random.default_rng(0)
  values = rng.normal(size=(N * K, N * K)).astype(np.float32)
  written = np.ones((N, K), bool)
  written[1, 1] = False
  for same in (True, False):
    found = command.by_class(values, written, same=same)
    for a, b in np.ndindex(K, K):
      cells = [
        values[i * K + a, j * K + b]
        for i in range(N)
        for j in range(N)
        if (i == j) == same and written[i, a] and written[j, b]
      ]
      assert found[a, b] == pytest.approx(np.mean(cells), rel=1e-5)


def test_a_class_that_no_picture_has_is_nan(command):
  written = np.array([[True, False]] * N)
  found = command.by_class(np.ones((N * K, N * K)), written, same=True)
  assert found[0, 0] == 1
  assert np.isnan([found[0, 1], found[1, 0], found[1, 1]]).all()


def test_squeezing_is_a_mean_over_tokens_that_count(command):
  mask = np.array([[[True, True], [True, False]]])
  numbers = np.array([[1.0, 3.0], [5.0, np.nan]])
  found = command.squeezed_by_class(Squeeze(*[numbers] * 7), mask)
  assert found["level"].tolist() == [2.0, 5.0]


@pytest.mark.slow
def test_the_command_draws_and_stores(command, tmp_path, capsys):
  rows = SceneRows(scenes.TRAIN, range(40), ProbeCaptions())
  texts = [text for row in rows for text in (row.question, *row.responses)]
  tiny.write_folder(tmp_path / "model", texts)
  out = tmp_path / "out"
  with flagsaver.flagsaver():
    flags.FLAGS(
      [
        "influence",
        f"--model_dir={tmp_path / 'model'}",
        f"--out={out}",
        "--pictures=2",
        "--samples=1",
        "--max_new_tokens=40",
        "--max_pixels=12544",
      ]
    )
    command.main()
  said = capsys.readouterr().out
  assert "the same picture" in said
  assert "Unlearning a class" in said
  stored = np.load(out / "influence.npz")
  assert stored["change"].shape == (16, 16)
  assert np.isfinite(stored["change"]).all()
  for name in ("same", "other"):
    assert (out / f"influence_{name}.png").stat().st_size > 1000
