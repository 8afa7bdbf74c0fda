"""Joins a model with the sampler: generate completions, score given ones."""

from jaxvlm.rollout.generate import Generate, make_generate
from jaxvlm.rollout.refill import Refill, Slots, empty_samples, make_refill
from jaxvlm.rollout.score import Score, make_score, statistics
from jaxvlm.rollout.stream import Piece, stream

__all__ = [
  "Generate",
  "Piece",
  "Refill",
  "Score",
  "Slots",
  "empty_samples",
  "make_generate",
  "make_refill",
  "make_score",
  "statistics",
  "stream",
]
