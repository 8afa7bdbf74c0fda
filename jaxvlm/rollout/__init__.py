"""Joins a model with the sampler: generate completions, score given ones."""

from jaxvlm.rollout.generate import make_generate
from jaxvlm.rollout.score import statistics

__all__ = ["make_generate", "statistics"]
