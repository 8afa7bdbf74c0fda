"""What a study compares: policies, and how its folders are said in words."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple


class Point(NamedTuple):
  """One policy of a study: `step` steps into a stage of an arm.

  A policy that no stage made, such as a teacher, has its name for an arm.
  """

  arm: str
  stage: str = ""
  step: int = 0


class Span(NamedTuple):
  """One policy, measured more than once: the mean over several steps.

  Late in a stage an accuracy swings by more than its interval from one
  evaluation to the next; the mean over the last few swings less.
  """

  arm: str
  stage: str
  steps: tuple[int, ...]


class Peak(NamedTuple):
  """The best policy of a stage: of each run, at the step where its mean over
  problems is highest.

  Which step that is, the metric that is asked for decides. Its value is biased
  upward, by the chance of several measurements, for all arms alike.
  """

  arm: str
  stage: str


Policy = Point | Span | Peak


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
  """Arms, stages and problem sets of a study.

  A study that trains nothing has arms and problem sets alone.

  Attributes:
    arms: folder of an arm -> its name in words, in the order of all tables
      and figures.
    problem_sets: name in files -> name in words; the first decides what the
      summary says.
    stages: folder of a stage -> its name in words.
    last: the stage that all arms end with. Its first policy is the "entry",
      its last one the "endpoint"; its settings are recorded under its name.
    last_name: what the last stage is in a word, such as "RL".
    without_last: arms that end before it, because others go on from them.
    untrained: where the policy was measured that no stage has trained yet; the
      first of them that was measured counts.
    untrained_name: what that policy is in words.
    references: what is measured beside the arms -> its name in words.
    headline: the score that the summary speaks of.
    shown: problem set -> the scores that tables show of it; of a set that is
      not named they show all.
    enough_steps: with fewer steps of the last stage no claim gets a verdict.
    command: what makes results.
  """

  arms: Mapping[str, str]
  problem_sets: Mapping[str, str]
  stages: Mapping[str, str] = dataclasses.field(default_factory=dict)
  last: str = ""
  last_name: str = ""
  without_last: tuple[str, ...] = ()
  untrained: tuple[Point, ...] = ()
  untrained_name: str = "base"
  references: Mapping[Point, str] = dataclasses.field(default_factory=dict)
  headline: str = "accuracy"
  shown: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  enough_steps: int = 0
  command: str = ""

  @property
  def main_set(self) -> str:
    """The problem set that the summary speaks of."""
    return next(iter(self.problem_sets))
