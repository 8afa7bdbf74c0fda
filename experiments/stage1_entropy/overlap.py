"""How many validation problems ask what training asked, family by family.

`python -m experiments.stage1_entropy.overlap` prints it for the laptop study.
"""

from experiments.stage1_entropy import config
from jaxvlm.data.diagrams import world
from jaxvlm.data.diagrams.overlap import overlap


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
