"""An evaluation of three problems, four completions each, and its file."""

import io

import numpy as np

from jaxvlm.eval.harness import Evaluation

ACCURACY = np.float32([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
LENGTHS = np.array([[2, 4, 1, 3], [5, 5, 5, 5], [1, 1, 2, 4]])


def example():
  rng = np.random.default_rng(0)
  entropies, neg = rng.random((2, 3, 4)).astype(np.float32)
  return Evaluation(
    name="in_domain",
    scores={
      "accuracy": ACCURACY,
      "format": np.float32(rng.random((3, 4)) < 0.5),
      "reward": rng.random((3, 4)).astype(np.float32),
    },
    lengths=LENGTHS,
    finished=rng.random((3, 4)) < 0.5,
    entropies=entropies,
    neg_logprobs=neg,
    answers=(("7", "8", "", "7"), ("", "", "", ""), ("½", "½", "½", "½")),
  )


def stored(e):
  file = io.BytesIO()
  np.savez(file, **e.to_arrays())
  return file
