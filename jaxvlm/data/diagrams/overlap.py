"""What problems of one split share with those of another, family by family."""

import collections
from collections.abc import Mapping

from jaxvlm.data.diagrams import world
from jaxvlm.data.diagrams.world import Split


def overlap(
  training: Split, trained: int, validation: Split, asked: int
) -> Mapping[str, tuple[int, int]]:
  """Returns family -> (problems seen in training, problems asked).

  A problem counts as seen when its template and its numbers, in any order, are
  those of a training problem; pictures and wording are always new.

  Args:
    training: the split that is learned from.
    trained: how many of its problems.
    validation: the split that is measured.
    asked: how many of its problems.
  """
  seen = {world.content_of(training, i) for i in range(trained)}
  counts = collections.defaultdict(lambda: [0, 0])
  for i in range(asked):
    content = world.content_of(validation, i)
    counts[content[0]][0] += content in seen
    counts[content[0]][1] += 1
  return {family: tuple(pair) for family, pair in counts.items()}
