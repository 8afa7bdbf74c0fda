"""Sampling from logits, one jitted loop; knows no model."""

from jaxvlm.sampling.draw import Draw, completion_keys, draw, root_key
from jaxvlm.sampling.logits import Sampling, truncate
from jaxvlm.sampling.loop import (
  Decoding,
  Lanes,
  Samples,
  begin,
  end_tokens,
  follow,
  reached,
  run_segment,
  sample_loop,
)

__all__ = [
  "Decoding",
  "Draw",
  "Lanes",
  "Samples",
  "Sampling",
  "begin",
  "completion_keys",
  "draw",
  "end_tokens",
  "follow",
  "reached",
  "root_key",
  "run_segment",
  "sample_loop",
  "truncate",
]
