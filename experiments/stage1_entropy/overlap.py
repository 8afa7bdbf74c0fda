"""How many validation problems ask what training asked, family by family.

`python -m experiments.stage1_entropy.overlap` prints it for the laptop study.
Pictures and wording are always new; here a problem counts as seen when its
task and its numbers, in any order, are those of a training problem.
"""

import collections
from collections.abc import Mapping

from experiments.stage1_entropy import config
from jaxvlm.data.diagrams import world
from jaxvlm.data.diagrams.world import Split


def overlap(
  training: Split, trained: int, validation: Split, asked: int
) -> Mapping[str, tuple[int, int]]:
  """Returns family -> (problems seen in training, problems asked).

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


def main() -> None:
  study = config.laptop()
  data, e = study.data, study.evaluation
  for name, training, trained in (
    ("SFT traces", world.SFT_TRACES, data.traces),
    ("RL problems", world.RL_TRAIN, data.train_problems),
  ):
    found = overlap(training, trained, world.VALIDATION, e.in_domain)
    seen, asked = (sum(column) for column in zip(*found.values(), strict=True))
    print(f"in {trained} {name}: {seen} of {asked}")
    for family, (some, of) in found.items():
      print(f"  {family:12s}{some:4d} of {of}")


if __name__ == "__main__":
  main()
