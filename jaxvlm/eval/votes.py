"""Several samples of a problem as one answer, and how sure they are of it."""

import collections
from typing import NamedTuple

import numpy as np

from jaxvlm.diagnostics.calibration import Bins, reliability
from jaxvlm.eval.harness import Evaluation
from jaxvlm.rewards import canonical


class Votes(NamedTuple):
  """What the samples of each of P problems agree on.

  Attributes:
    answers: the answer of most samples, as the first of them spells it; of
      several with as many samples the one that was drawn first. Samples
      without an answer have no vote; "" where no sample has one.
    confidence: f64[P] share of all samples that have it (self-consistency,
      Wang et al., arXiv:2203.11171).
    correct: bool[P] whether it is right.
  """

  answers: tuple[str, ...]
  confidence: np.ndarray
  correct: np.ndarray

  @property
  def brier(self) -> np.ndarray:
    """f64[P] (confidence − correct)² (Brier 1950)."""
    return (self.confidence - self.correct) ** 2

  def bins(self) -> Bins:
    """Returns the reliability diagram; its `error` is the ECE."""
    everywhere = np.ones_like(self.correct)
    found = reliability(
      self.confidence.astype(np.float32), self.correct, everywhere
    )
    return Bins(*(np.asarray(x, np.float64) for x in found))


def vote(evaluation: Evaluation) -> Votes:
  """Returns the majority's answers; KeyError without the score accuracy."""
  answers, confidence, correct = [], [], []
  for texts, right in zip(evaluation.answers, evaluation.accuracy, strict=True):
    spelled = [canonical(text) for text in texts]
    counts = collections.Counter(filter(None, spelled))
    # Of equal counts the one that came first: a Counter keeps the order.
    best, count = max(counts.items(), key=lambda c: c[1], default=("", 0))
    place = spelled.index(best) if count else 0
    answers.append(texts[place] if count else "")
    confidence.append(count / len(texts))
    correct.append(bool(count) and right[place] == 1)
  return Votes(
    tuple(answers), np.array(confidence, np.float64), np.array(correct, bool)
  )
