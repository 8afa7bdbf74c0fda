"""A generated world of small programs: prompts, tests, worked solutions.

The laptop's data for code: no download, exact tests, any number of problems.

    problem = programs.sample(programs.PRETRAIN, 0)
    problem.prompt, problem.tests, problem.solutions["worked"]
"""

from jaxvlm.data.programs.problem import STYLES, Problem
from jaxvlm.data.programs.world import (
  FAMILIES,
  HARD,
  PRETRAIN,
  RL_TRAIN,
  SFT_TRACES,
  TEST,
  VALIDATION,
  Split,
  generate,
  sample,
)

__all__ = [
  "FAMILIES",
  "HARD",
  "PRETRAIN",
  "RL_TRAIN",
  "SFT_TRACES",
  "STYLES",
  "TEST",
  "VALIDATION",
  "Problem",
  "Split",
  "generate",
  "sample",
]
