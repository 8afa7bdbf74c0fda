"""A generated world of diagrams with questions, answers and worked solutions.

The laptop's data: no download, exact answers, any number of problems.

    problem = diagrams.sample(diagrams.PRETRAIN, 0)
    problem.image, problem.question, problem.solutions["chain"]
"""

from jaxvlm.data.diagrams.problem import STYLES, Problem
from jaxvlm.data.diagrams.world import (
  IN_DOMAIN,
  OUT_OF_DOMAIN,
  PRETRAIN,
  RL_TRAIN,
  SFT_TRACES,
  VALIDATION,
  VALIDATION_OOD,
  Split,
  generate,
  sample,
)

__all__ = [
  "IN_DOMAIN",
  "OUT_OF_DOMAIN",
  "PRETRAIN",
  "RL_TRAIN",
  "SFT_TRACES",
  "STYLES",
  "VALIDATION",
  "VALIDATION_OOD",
  "Problem",
  "Split",
  "generate",
  "sample",
]
