"""One problem of the generated world: a picture, a question, its answers.

A problem carries several different correct solutions, because how sure a
model is of the *next token* depends on how many ways it knows to go on: the
studies of entropy need problems where more than one way is right.
"""

import dataclasses
import random

import numpy as np

# Every good solution exists in these styles, in every family:
# `add` puts the givens together at once, `chain` goes piece by piece, `words`
# says what is given before it computes.
STYLES = ("add", "chain", "words")

# Digits that a hasty reader takes for one another.
_LOOKALIKES = {
  "0": "8",
  "1": "7",
  "2": "7",
  "3": "8",
  "4": "9",
  "5": "6",
  "6": "5",
  "7": "1",
  "8": "3",
  "9": "4",
}
_SLIPS = (-10, -2, -1, 1, 2, 10)
_CARELESS_ACCURACY = 0.2


def response(work: str, answer: str) -> str:
  """Returns the text of a response: the work, then the boxed answer."""
  return f"<think>{work}</think> \\boxed{{{answer}}}"


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
  """A picture with a question that cannot be answered without it.

  Attributes:
    family: the kind of diagram, a name from `world.IN_DOMAIN` or
      `world.OUT_OF_DOMAIN`.
    question: a short sentence without any number.
    answer: the exact answer, such as "70" or "7:15".
    solutions: style (of `STYLES`) -> text of a whole correct response.
    image: u8[H, W, 3], read-only; H and W are multiples of 28.
    difficulty: arithmetic steps of the longest of its solutions, 1 to 3.
    seed: `world.generate(family, seed)` gives this problem again.
    in_domain: whether the family belongs to the training domain.
  """

  family: str
  question: str
  answer: str
  solutions: dict[str, str]
  image: np.ndarray
  difficulty: int
  seed: int
  in_domain: bool

  def careless(self, rng: random.Random | np.random.Generator) -> str:
    """Returns a plausible response without work, right one time in five.

    It stands for the sloppy work of a pre-training corpus: where it is wrong,
    it misreads one digit or slips by a little.

    Args:
      rng: source of randomness; only its `random()` is used.
    """
    guess = self.answer
    if rng.random() >= _CARELESS_ACCURACY:
      while guess == self.answer:
        guess = _near(self.answer, rng)
    return response(f"it looks like {guess}", guess)


def _near(answer: str, rng: random.Random | np.random.Generator) -> str:
  """Returns a number or a time near `answer`, sometimes `answer` itself."""
  if ":" in answer:
    hour, minute = (int(part) for part in answer.split(":"))
    if rng.random() < 0.5:
      return f"{hour}:{(minute + _pick((15, 30, 45), rng)) % 60:02d}"
    return f"{(hour - 1 + _pick((-1, 1), rng)) % 12 + 1}:{minute:02d}"
  if rng.random() < 0.5:
    at = int(rng.random() * len(answer))
    return answer[:at] + _LOOKALIKES[answer[at]] + answer[at + 1 :]
  slipped = int(answer) + _pick(_SLIPS, rng)
  return str(slipped) if slipped > 0 else answer


def _pick(options, rng):
  return options[int(rng.random() * len(options))]
