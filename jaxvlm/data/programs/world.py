"""The world of programs: families, splits, and problems from seeds.

A problem is a pure function of its family and seed. Splits own disjoint blocks
of seeds. On top of that a hash of the content (operations with constants)
sends one content in eight of the families with many contents to validation and
test alone, so that what they ask there was never seen in training.

Examples decide: every other choice of the constants that a docstring keeps
silent contradicts an example *and* a test. No test repeats an example, so a
table of the examples passes none.
"""

import dataclasses
import functools
import hashlib
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxvlm.data import seeds
from jaxvlm.data.programs import operations as ops
from jaxvlm.data.programs import problem as problems
from jaxvlm.data.programs.operations import Operation
from jaxvlm.data.programs.problem import Chain, Problem

_DRAWS = 30  # tries for inputs that decide, before other constants
_HELD_OUT_SHARE = 8  # one content in so many belongs to validation and test
_TESTS = 6
_WORDS = (
  "cat dog tree lamp fish bird road moon star wind leaf fox owl sand snow"
).split()


class Family(NamedTuple):
  """A kind of function.

  Attributes:
    chains: what is chained, one of these.
    argument: name of the argument.
    draw: draws an input.
    examples: how many the docstring shows.
    most_hidden: of how many operations a docstring may keep silent.
    partitioned: whether contents are kept for validation.
  """

  chains: tuple[tuple[Operation, ...], ...]
  argument: str
  draw: Callable[[random.Random], Any]
  examples: int = 3
  most_hidden: int = 1
  partitioned: bool = False


def _small(rng: random.Random) -> int:
  return rng.randrange(13)


def _two_digits(rng: random.Random) -> int:
  return rng.randrange(10, 100)


def _word(rng: random.Random) -> str:
  return rng.choice(_WORDS)


def _numbers(rng: random.Random) -> list[int]:
  return [rng.randrange(10) for _ in range(2)]


_ARITHMETIC = (
  ops.MULTIPLY, ops.ADD, ops.SUBTRACT, ops.REMAINDER, ops.DIVIDE, ops.CAP,
  ops.RAISE,
)  # fmt: skip
_HEADS = (ops.BELOW, ops.SERIES, ops.COUNT)
_SHIFTS = (ops.MULTIPLY, ops.ADD, ops.SUBTRACT)


def _pairs(
  first: Sequence[Operation], then: Sequence[Operation]
) -> tuple[tuple[Operation, ...], ...]:
  return tuple((a, b) for a in first for b in then if a is not b)


FAMILIES: dict[str, Family] = {
  "affine": Family(
    _pairs((ops.MULTIPLY,), (ops.ADD, ops.SUBTRACT)), "x", _small
  ),
  "clamp": Family(
    ((ops.RAISE, ops.CAP), (ops.CAP,), (ops.RAISE,)), "x", _small
  ),
  "remainder": Family(
    ((ops.REMAINDER,), (ops.DIVIDE,), (ops.REMAINDER, ops.ADD)), "x", _small
  ),
  "digits": Family(
    _pairs((ops.DIGIT_SUM, ops.LAST_DIGIT), _SHIFTS), "x", _two_digits
  ),
  "piecewise": Family(((ops.BELOW,),), "x", _small),
  "loop": Family(((ops.SERIES,), (ops.COUNT,)), "x", _small),
  "string": Family(
    _pairs((ops.FIRST, ops.DROP), (ops.REPEAT,))
    + _pairs((ops.REVERSE, ops.UPPER), (ops.FIRST, ops.DROP)),
    "s",
    _word,
    examples=2,
  ),
  "list": Family(
    _pairs((ops.ADD_EACH, ops.KEEP_ABOVE), (ops.TOTAL, ops.ORDER)),
    "a",
    _numbers,
    examples=2,
  ),
  "compose": Family(
    _pairs(_ARITHMETIC, _ARITHMETIC) + _pairs(_HEADS, _SHIFTS),
    "x",
    _small,
    most_hidden=2,
    partitioned=True,
  ),
}
# What the hard split asks: constants are always to be found from examples.
HARD = ("compose", "affine", "digits", "compose", "piecewise", "loop")


@dataclasses.dataclass(frozen=True)
class Split:
  """A block of seeds and the families drawn from it, in turn.

  Attributes:
    name: the split's name.
    block: the split owns the seeds from block·2⁴⁰ to (block + 1)·2⁴⁰ - 1.
    families: names; index i belongs to family i mod len(families).
    held_out: whether it takes the contents that are kept for validation and
      test, or all others.
    hard: whether a docstring always keeps a constant silent.
  """

  name: str
  block: int
  families: tuple[str, ...]
  held_out: bool
  hard: bool = True


PRETRAIN = Split("pretrain", 1, (*FAMILIES, *HARD), held_out=False, hard=False)
SFT_TRACES = Split("sft_traces", 2, HARD, held_out=False)
RL_TRAIN = Split("rl_train", 3, HARD, held_out=False)
VALIDATION = Split("validation", 4, HARD, held_out=True)
TEST = Split("test", 5, HARD, held_out=True)


def generate(family: str, seed: int, *, hard: bool = True) -> Problem:
  """Returns the problem of this family and seed, always the same.

  Args:
    family: a name from `FAMILIES`.
    seed: any integer.
    hard: the docstring keeps at least one constant silent, if there is one.

  Raises:
    ValueError: if there is no such family.
  """
  kind, rng = _family(family), random.Random(seed)
  chain, hidden, examples, tests = _pose(kind, rng, hard)
  return Problem(
    family=family,
    prompt=problems.prompt(chain, kind.argument, examples, hidden),
    tests=problems.tests(chain, tests),
    solutions=problems.solutions(chain, kind.argument, examples[0], rng),
    chain=chain,
    argument=kind.argument,
    examples=tuple(examples),
    hidden=hidden,
    seed=seed,
  )


def sample(split: Split, index: int) -> Problem:
  """Returns problem number `index` of a split, always the same.

  Args:
    split: one of this module's splits.
    index: 0 to 2³² - 1.

  Raises:
    ValueError: if the index lies outside the split's block of seeds.
  """
  name = split.families[index % len(split.families)]
  seed = seeds.first(split.name, split.block, index)
  problem = generate(name, seed, hard=split.hard)
  if _family(name).partitioned:
    while _is_held_out(problem) != split.held_out:
      seed += 1
      problem = generate(name, seed, hard=split.hard)
  return problem


def _family(name: str) -> Family:
  if name not in FAMILIES:
    raise ValueError(
      f"no family {name!r}; expected one of {', '.join(FAMILIES)}"
    )
  return FAMILIES[name]


def _pose(
  family: Family, rng: random.Random, hard: bool
) -> tuple[Chain, tuple[int, ...], list[Any], list[Any]]:
  """Draws a chain, what is hidden of it, examples and tests that decide."""
  while True:
    operations = rng.choice(family.chains)
    chain = Chain(operations, _constants(operations, rng))
    silent = [i for i, op in enumerate(operations) if op.silent]
    most = min(family.most_hidden, len(silent))
    count = rng.randint(1 if hard and most else 0, most)
    hidden = tuple(sorted(rng.sample(silent, count)))
    if _decidable(family, chain):
      found = _deciding(family, chain, hidden, rng)
      if found is not None:
        return chain, hidden, *found


def _constants(operations, rng):
  return tuple(
    tuple(rng.randint(low, high) for low, high in op.ranges)
    for op in operations
  )


@functools.lru_cache(2**16)
def _decidable(family: Family, chain: Chain) -> bool:
  """Whether every constant matters for some input of the family."""
  inputs = _inputs(family)
  right = [chain(x) for x in inputs]
  return all(
    any(other(x) != y for x, y in zip(inputs, right, strict=True))
    for place in problems.slots(chain)
    for other in _others(chain, (place,))
  )


@functools.lru_cache
def _inputs(family: Family) -> tuple[Any, ...]:
  """Returns many inputs of a family, the same ones always."""
  rng = random.Random(0)
  return tuple(family.draw(rng) for _ in range(40))


@functools.lru_cache(2**16)
def _others(
  chain: Chain, places: tuple[tuple[int, int], ...]
) -> tuple[Chain, ...]:
  """Returns the chain with all other constants at these places."""
  ranges = [chain.operations[i].ranges[k] for i, k in places]
  out = []
  for values in itertools.product(*(range(a, b + 1) for a, b in ranges)):
    other = chain
    for place, value in zip(places, values, strict=True):
      other = other.replaced(place, value)
    if other != chain:
      out.append(other)
  return tuple(out)


def _deciding(
  family: Family,
  chain: Chain,
  hidden: tuple[int, ...],
  rng: random.Random,
) -> tuple[list[Any], list[Any]] | None:
  """Returns inputs of examples and of tests that tell the chain from others.

  The tests tell it from every chain with one constant changed, the examples
  from every chain with other silent constants that the tests tell apart. None
  if no such inputs were found.
  """
  alone = [
    other
    for place in problems.slots(chain)
    for other in _others(chain, (place,))
  ]
  rivals = _others(chain, problems.silent(chain, hidden))
  for _ in range(_DRAWS):
    drawn: list[Any] = []
    while len(drawn) < family.examples + _TESTS:
      value = family.draw(rng)
      if value not in drawn:
        drawn.append(value)
    examples, tests = drawn[: family.examples], drawn[family.examples :]
    outputs = {repr(chain(x)) for x in tests}
    if len(outputs) < 3 or all(chain(x) == x for x in tests):
      continue
    if isinstance(tests[0], int) and all(
      chain(x) == chain(min(examples, key=lambda e: abs(e - x))) for x in tests
    ):
      continue  # a table of the examples would do
    if not all(_differ(chain, other, tests) for other in alone):
      continue
    if all(
      _differ(chain, rival, examples) or not _differ(chain, rival, tests)
      for rival in rivals
    ):
      return examples, tests
  return None


def _differ(a: Chain, b: Chain, inputs: Sequence[Any]) -> bool:
  return any(a(x) != b(x) for x in inputs)


def _is_held_out(problem: Problem) -> bool:
  # Not hash(): that of strings changes from process to process.
  names = [operation.name for operation in problem.chain.operations]
  text = f"{problem.family} {names} {problem.chain.constants}"
  digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
  return int.from_bytes(digest) % _HELD_OUT_SHARE == 0
