"""The generated world: families, splits, and problems from seeds.

A problem is a pure function of its family and seed. Splits own disjoint blocks
of seeds. On top of that, where a family has more than about 200 contents (its
template with its numbers in any order), a hash of the content sends one content
in eight to validation alone: what validation asks of triangle, exterior angle,
parallel lines and bars was never seen in training. Isosceles, right triangle,
rectangle, circle, clock and counting have fewer contents than that (48 to 189);
their validation pictures are new, their numbers are not: of 210 in-domain
validation problems of the laptop study, 120 have the content of one of its RL
problems (`python -m experiments.stage1_entropy.overlap`).
"""

import dataclasses
import hashlib
import random

from jaxvlm.data import seeds
from jaxvlm.data.diagrams import angles, charts, shapes
from jaxvlm.data.diagrams.canvas import Canvas
from jaxvlm.data.diagrams.problem import STYLES, Problem, response
from jaxvlm.data.diagrams.template import Family, Numbers, Template

_IN_DOMAIN = (
  angles.TRIANGLE,
  angles.ISOSCELES,
  angles.EXTERIOR,
  angles.RIGHT,
  angles.PARALLEL,
  shapes.RECTANGLE,
  shapes.CIRCLE,
)
_OUT_OF_DOMAIN = (charts.BARS, charts.CLOCK, charts.COUNTING)
_FAMILIES = {family.name: family for family in _IN_DOMAIN + _OUT_OF_DOMAIN}

IN_DOMAIN = tuple(family.name for family in _IN_DOMAIN)
OUT_OF_DOMAIN = tuple(family.name for family in _OUT_OF_DOMAIN)

_DRAWINGS = 24  # tries for a picture whose labels stand well
_STRAIN = 300  # what a label may suffer: some 12 pixels off, or a grazed line
_HELD_OUT_SHARE = 8  # one content in so many belongs to validation


@dataclasses.dataclass(frozen=True)
class Split:
  """A block of seeds and the families drawn from it, in turn.

  Attributes:
    name: the split's name.
    block: the split owns the seeds from block·2⁴⁰ to (block + 1)·2⁴⁰ - 1.
    families: names; index i belongs to family i mod len(families).
    held_out: whether it takes the contents that are kept for validation, or
      all others.
  """

  name: str
  block: int
  families: tuple[str, ...]
  held_out: bool


PRETRAIN = Split("pretrain", 1, IN_DOMAIN + OUT_OF_DOMAIN, held_out=False)
SFT_TRACES = Split("sft_traces", 2, IN_DOMAIN, held_out=False)
RL_TRAIN = Split("rl_train", 3, IN_DOMAIN, held_out=False)
VALIDATION = Split("validation", 4, IN_DOMAIN, held_out=True)
VALIDATION_OOD = Split("validation_ood", 5, OUT_OF_DOMAIN, held_out=True)


def generate(family: str, seed: int) -> Problem:
  """Returns the problem of this family and seed, always the same.

  Args:
    family: a name from `IN_DOMAIN` or `OUT_OF_DOMAIN`.
    seed: any integer.

  Raises:
    ValueError: if there is no such family.
  """
  kind = _family(family)
  rng, template, numbers = _pose(kind, seed)
  question = rng.choice(template.questions)
  canvas, readings = _draw(rng, template, numbers)
  worked = template.solve(*readings)
  canvas.pixels.setflags(write=False)
  return Problem(
    family=family,
    question=question,
    answer=worked.answer,
    solutions={
      style: response(getattr(worked, style), worked.answer) for style in STYLES
    },
    image=canvas.pixels,
    difficulty=worked.steps,
    seed=seed,
    in_domain=family in IN_DOMAIN,
  )


def sample(split: Split, index: int) -> Problem:
  """Returns problem number `index` of a split, always the same.

  Args:
    split: one of this module's splits.
    index: 0 to 2³² - 1.

  Raises:
    ValueError: if the index lies outside the split's block of seeds.
  """
  return generate(*_place(split, index))


def content_of(split: Split, index: int) -> tuple[str, str, Numbers]:
  """Returns the `content` of problem `index` of a split, without drawing it.

  Raises:
    ValueError: if the index lies outside the split's block of seeds.
  """
  return content(*_place(split, index))


def _place(split: Split, index: int) -> tuple[str, int]:
  """Returns (family, seed) of problem `index` of a split."""
  name = split.families[index % len(split.families)]
  family = _family(name)
  seed = seeds.first(split.name, split.block, index)
  if family.partitioned:
    while _is_held_out(content(name, seed)) != split.held_out:
      seed += 1
  return name, seed


def content(family: str, seed: int) -> tuple[str, str, Numbers]:
  """Returns (family, template, sorted numbers): what a problem is about.

  Two problems of the same content differ at most in picture and wording.
  """
  _, template, numbers = _pose(_family(family), seed)
  return family, template.name, tuple(sorted(numbers))


def _family(name: str) -> Family:
  if name not in _FAMILIES:
    raise ValueError(
      f"no family {name!r}; expected one of {', '.join(_FAMILIES)}"
    )
  return _FAMILIES[name]


def _pose(family: Family, seed: int) -> tuple[random.Random, Template, Numbers]:
  rng = random.Random(seed)
  template = rng.choice(family.templates)
  return rng, template, template.pose(rng)


def _draw(rng: random.Random, template: Template, numbers: Numbers):
  """Draws until every label stands well; returns (canvas, readings)."""
  best = None
  for _ in range(_DRAWINGS):
    canvas = Canvas(*rng.choice(template.sizes))
    readings = template.draw(rng, canvas, numbers)
    if best is None or canvas.strain < best[0].strain:
      best = canvas, readings
    if canvas.strain < _STRAIN:
      break
  return best


def _is_held_out(key: tuple[str, str, Numbers]) -> bool:
  # Not hash(): that of strings changes from process to process.
  digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
  return int.from_bytes(digest) % _HELD_OUT_SHARE == 0
