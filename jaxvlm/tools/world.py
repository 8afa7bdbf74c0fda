"""Draws the generated world on one sheet, for a person to look at."""

import pathlib

from absl import flags

from jaxvlm import config as configs
from jaxvlm import program
from jaxvlm.data import diagrams
from jaxvlm.data.diagrams.sheet import contact_sheet

_OUT = configs.define_path("out", "world.png", "where to write the PNG")
_EACH = flags.DEFINE_integer("each", 6, "problems per family", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "the first seed")


def main() -> None:
  problems = [
    diagrams.generate(family, _SEED.value + i)
    for family in diagrams.IN_DOMAIN + diagrams.OUT_OF_DOMAIN
    for i in range(_EACH.value)
  ]
  pathlib.Path(_OUT.value).parent.mkdir(parents=True, exist_ok=True)
  contact_sheet(problems, _EACH.value).save(_OUT.value)
  print(_OUT.value)


def run() -> None:
  program.run(main, "jaxvlm world")
