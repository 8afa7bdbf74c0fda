"""Draws a generated world on one sheet, for a person to look at."""

import pathlib

from absl import flags

from jaxvlm import config as configs
from jaxvlm import program
from jaxvlm.data import diagrams, negatives, scenes
from jaxvlm.data.sheet import Card, contact_sheet
from jaxvlm.data.sources.scenes import Pairs

_OUT = configs.define_path("out", "world.png", "where to write the PNG")
_EACH = flags.DEFINE_integer(
  "each", 6, "problems per family, or scenes in a row", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "the first seed")
_SCENES = flags.DEFINE_bool(
  "scenes", False, "draw scenes with captions in the place of diagrams"
)
_ROWS = 4  # of scenes


def _diagrams() -> list[Card]:
  """Returns diagrams, with solutions of the styles in turn."""
  problems = [
    diagrams.generate(family, _SEED.value + i)
    for family in diagrams.IN_DOMAIN + diagrams.OUT_OF_DOMAIN
    for i in range(_EACH.value)
  ]
  cards = []
  for at, problem in enumerate(problems):
    style = diagrams.STYLES[at % len(diagrams.STYLES)]
    texts = (
      f"{problem.family}, difficulty {problem.difficulty}",
      problem.question,
      f"answer: {problem.answer}",
      f"{style}: {problem.solutions[style]}",
    )
    cards.append(Card(problem.image, texts))
  return cards


def _scenes() -> list[Card]:
  """Returns scenes with a right caption of each wording and a wrong one."""
  wrong = Pairs(kinds=negatives.GENTLE + negatives.EASY)
  cards = []
  for index in range(_ROWS * _EACH.value):
    scene = scenes.generate(_SEED.value + index)
    _, (rejected, kind) = wrong(index, scene)
    texts = [f"+ {text}" for text in scene.references[:3]]
    cards.append(Card(scene.image, (*texts, f"- {kind}: {rejected}")))
  return cards


def main() -> None:
  cards = _scenes() if _SCENES.value else _diagrams()
  pathlib.Path(_OUT.value).parent.mkdir(parents=True, exist_ok=True)
  contact_sheet(cards, _EACH.value).save(_OUT.value)
  print(_OUT.value)


def run() -> None:
  program.run(main, "jaxvlm world")
