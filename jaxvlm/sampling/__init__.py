"""Sampling from logits, one jitted loop; knows no model."""

from jaxvlm.sampling.logits import Sampling, truncate
from jaxvlm.sampling.loop import Samples, completion_keys, sample_loop

__all__ = ["Samples", "Sampling", "completion_keys", "sample_loop", "truncate"]
