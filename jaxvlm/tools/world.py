"""Draws the generated world on one sheet, for a person to look at."""

from absl import app, flags

from jaxvlm.data import diagrams
from jaxvlm.data.diagrams.sheet import contact_sheet

_OUT = flags.DEFINE_string("out", "world.png", "where to write the PNG")
_EACH = flags.DEFINE_integer("each", 6, "problems per family", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "the first seed")


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}; see --help")
  problems = [
    diagrams.generate(family, _SEED.value + i)
    for family in diagrams.IN_DOMAIN + diagrams.OUT_OF_DOMAIN
    for i in range(_EACH.value)
  ]
  contact_sheet(problems, _EACH.value).save(_OUT.value)
  print(_OUT.value)


def run() -> None:
  app.run(main)
