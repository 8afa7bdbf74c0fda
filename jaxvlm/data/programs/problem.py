"""One problem of the world of programs: a prompt, hidden tests, solutions.

A problem carries several different correct solutions, because how sure a
model is of the *next token* depends on how many ways it knows to go on.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxvlm.data.programs.operations import (
  Binds,
  Constants,
  Form,
  Operation,
)

# Every solution exists in these styles: one expression, a statement a step,
# and an expression behind a trace of the first example through the steps.
STYLES = ("direct", "steps", "worked")

_CARELESS_ACCURACY = 0.2


class Chain(NamedTuple):
  """Operations in order, with their constants: what a program computes."""

  operations: tuple[Operation, ...]
  constants: tuple[Constants, ...]

  def values(self, value: Any) -> list[Any]:
    """Returns the value before each operation, and after the last."""
    out = [value]
    for operation, constants in zip(*self, strict=True):
      out.append(operation.apply(out[-1], constants))
    return out

  def __call__(self, value: Any) -> Any:
    return self.values(value)[-1]

  def replaced(self, place: tuple[int, int], constant: int) -> "Chain":
    """Returns the chain with one constant changed: (operation, which)."""
    operation, which = place
    constants = [list(of) for of in self.constants]
    constants[operation][which] = constant
    return self._replace(constants=tuple(map(tuple, constants)))


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
  """A function to write.

  Attributes:
    family: what kind of function, a name from `world.FAMILIES`.
    prompt: signature and docstring with examples, as a coder sees them.
    tests: hidden tests, one `assert f(…) == …` a line; no example is among
      them.
    solutions: style (of `STYLES`) -> a whole correct program.
    chain: what the function computes.
    argument: name of its argument.
    examples: inputs whose outputs the docstring shows.
    hidden: the operations whose constants the docstring keeps silent.
    seed: `world.generate(family, seed)` gives this problem again.
  """

  family: str
  prompt: str
  tests: str
  solutions: dict[str, str]
  chain: Chain
  argument: str
  examples: tuple[Any, ...]
  hidden: tuple[int, ...]
  seed: int

  def careless(self, rng: random.Random) -> str:
    """Returns a program without work, right one time in five.

    It stands for the sloppy code of a pre-training corpus: where it is wrong,
    one constant is another than the examples show.

    Args:
      rng: source of randomness.
    """
    chain = self.chain
    places = silent(chain, self.hidden) or slots(chain)
    if places and rng.random() >= _CARELESS_ACCURACY:
      operation, which = rng.choice(places)
      low, high = chain.operations[operation].ranges[which]
      right = chain.constants[operation][which]
      others = [c for c in range(low, high + 1) if c != right]
      chain = chain.replaced((operation, which), rng.choice(others))
    return direct(chain, self.argument, rng)


def slots(chain: Chain) -> tuple[tuple[int, int], ...]:
  """Returns (operation, which) of every constant."""
  return tuple(
    (i, k)
    for i, operation in enumerate(chain.operations)
    for k in range(len(operation.ranges))
  )


def silent(chain: Chain, hidden: Sequence[int]) -> tuple[tuple[int, int], ...]:
  """Returns (operation, which) of the constants that a docstring keeps back."""
  return tuple((i, k) for i in hidden for k in chain.operations[i].silent)


def docstring(chain: Chain, hidden: Sequence[int]) -> str:
  """Returns what is asked for, in a sentence; silent about `hidden`."""
  words = [
    (op.vague if i in hidden else op.stated).format(*chain.constants[i])
    for i, op in enumerate(chain.operations)
  ]
  sentence = ", then ".join(words)
  return f"{sentence[0].upper()}{sentence[1:]}."


def prompt(
  chain: Chain,
  argument: str,
  examples: Sequence[Any],
  hidden: Sequence[int],
) -> str:
  """Returns signature and docstring."""
  shown = "".join(f"    >>> f({x!r})\n    {chain(x)!r}\n" for x in examples)
  return (
    f'def f({argument}):\n    """{docstring(chain, hidden)}\n\n{shown}    """\n'
  )


def tests(chain: Chain, inputs: Sequence[Any]) -> str:
  """Returns the tests as text."""
  return "\n".join(f"assert f({x!r}) == {chain(x)!r}" for x in inputs)


def solutions(
  chain: Chain, argument: str, example: Any, rng: random.Random
) -> dict[str, str]:
  """Returns style -> program; `rng` chooses among equal spellings."""
  return {
    "direct": direct(chain, argument, rng),
    "steps": _steps(chain, argument, rng),
    "worked": _trace(chain, example) + direct(chain, argument, rng),
  }


def direct(chain: Chain, argument: str, rng: random.Random) -> str:
  """Returns the program that is one expression."""
  text, binds = argument, Binds.ATOM
  for operation, constants in zip(*chain, strict=True):
    form = rng.choice(operation.forms)
    text, binds = _apply(form, text, binds, constants), form.binds
  return f"def f({argument}):\n    return {text}\n"


def _apply(form: Form, text: str, binds: Binds, constants: Constants) -> str:
  operand = text if binds >= form.needs else f"({text})"
  return form.text.format(*constants, v=operand)


def _steps(chain: Chain, argument: str, rng: random.Random) -> str:
  """Returns the program with a statement for every operation."""
  lines = []
  for operation, constants in zip(*chain, strict=True):
    if operation.block:
      lines += [line.format(*constants, v=argument) for line in operation.block]
    else:
      form = rng.choice(operation.forms)
      text = _apply(form, argument, Binds.ATOM, constants)
      lines.append(f"{argument} = {text}")
  body = "".join(f"    {line}\n" for line in lines)
  return f"def f({argument}):\n{body}    return {argument}\n"


def _trace(chain: Chain, example: Any) -> str:
  """Returns the first example, worked through the steps, as a comment."""
  return f"# {' -> '.join(map(repr, chain.values(example)))}\n"
