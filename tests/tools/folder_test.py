"""A folder as Python code uses it: questions, answers, scores; no torch."""

import pathlib
import runpy
import sys

import numpy as np
import pytest

from jaxvlm.models.qwen2_5_vl import logits
from jaxvlm.rollout.answer import Request
from jaxvlm.sampling import Sampling
from jaxvlm.tools import folder as folders
from tests import tiny

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  where = tmp_path_factory.mktemp("model")
  tiny.write_folder(where)
  return folders.load(str(where))


def test_scores_of_a_question_are_those_that_its_answer_is_drawn_from(model):
  picture = np.full((56, 84, 3), 200, np.uint8)
  batch = model.ask("What is x?", [picture])
  scores = np.asarray(logits(model.config, model.params, batch))
  assert scores.shape[:2] == batch.prompts.tokens.shape
  request = Request(
    "What is x?", (picture,), sampling=Sampling(0.0), max_new_tokens=1
  )
  (word,) = model.answer(request)
  known = scores[0, -1, : model.chat.vocab_size].astype(float)
  assert word.token == known.argmax()
  p = np.exp(known - known.max())
  p /= p.sum()
  assert word.entropy == pytest.approx(-(p * np.log(p)).sum(), abs=1e-4)


def test_the_example_without_torch_runs(monkeypatch, capsys, model):
  where = str(EXAMPLES / "picture_logits.py")
  main = runpy.run_path(where)["main"]
  monkeypatch.setitem(sys.modules, "torch", None)
  monkeypatch.setattr(folders, "load", lambda path: model)
  main()
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].endswith("most likely:") and len(lines) == 6


def test_what_is_no_folder_is_named_beside_the_shipped_ones(tmp_path):
  for path in ("nano-bas", str(tmp_path / "nowhere")):
    with pytest.raises(FileNotFoundError, match="nano-base, nano-teacher"):
      folders.load(path)
