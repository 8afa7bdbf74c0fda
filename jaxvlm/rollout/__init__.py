"""Joins a model with the sampler: generate completions, score given ones."""

from jaxvlm.rollout.generate import Generate, make_generate
from jaxvlm.rollout.refill import Slots, make_refill
from jaxvlm.rollout.score import statistics

__all__ = ["Generate", "Slots", "make_generate", "make_refill", "statistics"]
