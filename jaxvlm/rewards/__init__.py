"""Rewards: a response and what is right, to a number. Strings in, no jax."""

from jaxvlm.rewards.answers import extract_boxed, normalize
from jaxvlm.rewards.code import Sandbox, Tests, Verdict, run_tests
from jaxvlm.rewards.geometry3k import easyr1_reward, geometry3k_reward
from jaxvlm.rewards.math import canonical, grade

__all__ = [
  "Sandbox",
  "Tests",
  "Verdict",
  "canonical",
  "easyr1_reward",
  "extract_boxed",
  "geometry3k_reward",
  "grade",
  "normalize",
  "run_tests",
]
