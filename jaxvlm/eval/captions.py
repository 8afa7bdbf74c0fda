"""Scores of captions, where one looks for them when evaluating."""

from jaxvlm.rewards.captions import (
  CaptionScores,
  caption_frequencies,
  score_captions,
)
from jaxvlm.rewards.captions_java import java_scores

__all__ = [
  "CaptionScores",
  "caption_frequencies",
  "java_scores",
  "score_captions",
]
