"""What a family of problems is made of, and the phrases all families share.

A template separates its *content* (the numbers) from its picture, so that the
world can decide from the content alone to which split a problem belongs,
before anything is drawn.
"""

import dataclasses
import random
from collections.abc import Callable

from jaxvlm.data.diagrams import canvas

# The sizes of the world's pictures, as (width, height): multiples of 28 (one
# image token of Qwen2.5-VL), so that nothing is ever resized.
SIZES = ((84, 84), (112, 84), (84, 112), (112, 112))
LARGE_SIZES = SIZES[1:]  # room for three labels

Numbers = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Worked:
  """An answer and the work that leads to it, in every style.

  Attributes:
    answer: the exact answer.
    add, chain, words: the work in the style of that name.
  """

  answer: str
  add: str
  chain: str
  words: str

  @property
  def steps(self) -> int:
    """Arithmetic steps of the longest way, at least 1."""
    ways = self.add, self.chain, self.words
    return max(1, *(way.count("=") for way in ways))


@dataclasses.dataclass(frozen=True)
class Template:
  """One kind of question about one kind of picture.

  Attributes:
    name: the template's name, unique in its family.
    questions: paraphrases of the question; none contains a number.
    pose: rng -> the numbers of a problem, its content.
    draw: (rng, canvas, numbers) draws the picture and returns the numbers in
      the order in which the solutions read them.
    solve: numbers in reading order -> Worked.
    sizes: the picture sizes that have room for it.
  """

  name: str
  questions: tuple[str, ...]
  pose: Callable[[random.Random], Numbers]
  draw: Callable[[random.Random, canvas.Canvas, Numbers], Numbers]
  solve: Callable[..., Worked]
  sizes: tuple[tuple[int, int], ...] = SIZES


@dataclasses.dataclass(frozen=True)
class Family:
  """Tasks that share a kind of picture.

  Attributes:
    name: the family's name.
    templates: its templates, drawn with equal probability.
    partitioned: whether the family has so many contents (more than 200) that
      validation gets contents of its own.
  """

  name: str
  templates: tuple[Template, ...]
  partitioned: bool


def plus(a: int, b: int) -> str:
  return f"{a}+{b}={a + b}"


def minus(a: int, b: int) -> str:
  return f"{a}-{b}={a - b}"


def times(a: int, b: int) -> str:
  return f"{a}*{b}={a * b}"


def sum_of(a: int, b: int) -> Worked:
  """Works out x = a + b; piece by piece means tens, then ones."""
  tens = b - b % 10
  return Worked(
    answer=str(a + b),
    add=plus(a, b),
    chain=f"{plus(a, tens)}, {plus(a + tens, b % 10)}",
    words=f"given {a} and {b}, so x is {plus(a, b)}",
  )


def complement(whole: int, part: int) -> Worked:
  """Works out x = whole - part; piece by piece means tens, then ones."""
  tens = part - part % 10
  return Worked(
    answer=str(whole - part),
    add=minus(whole, part),
    chain=f"{minus(whole, tens)}, {minus(whole - tens, part % 10)}",
    words=f"given {part}, so x is {minus(whole, part)}",
  )


def given_numbers(picture: canvas.Canvas) -> Numbers:
  """Returns the numbers on the labels in reading order, without the x."""
  return tuple(int(text) for text in picture.reading() if text != "x")
