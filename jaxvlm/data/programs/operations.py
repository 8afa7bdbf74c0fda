"""Operations on integers, words and lists: what they do and how they read.

An operation carries its meaning as a function and its spellings as texts, so
that a problem's tests come from the one and its solutions from the other.
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

Constants = tuple[int, ...]


class Binds(enum.IntEnum):
  """How tightly an expression holds together, loosest first."""

  CONDITION = 0
  SUM = 1
  PRODUCT = 2
  ATOM = 3


class Form(NamedTuple):
  """One spelling as an expression.

  Attributes:
    text: with {v} for the operand and {0}, {1} for the constants.
    binds: how tightly the whole holds together.
    needs: how tightly the operand must hold together without parentheses.
  """

  text: str
  binds: Binds = Binds.ATOM
  needs: Binds = Binds.CONDITION


class Operation(NamedTuple):
  """One operation with its constants left open.

  Attributes:
    name: unique among all operations.
    stated: what a docstring says of it, with its constants.
    vague: the same with some of them kept silent.
    apply: (value, constants) -> value.
    forms: spellings as an expression, all equal in meaning.
    ranges: (least, most) of each constant.
    block: spelling as statements that set {v}, one a line; empty: an
      assignment of an expression.
  """

  name: str
  stated: str
  vague: str
  apply: Callable[[Any, Constants], Any]
  forms: tuple[Form, ...]
  ranges: tuple[tuple[int, int], ...] = ()
  block: tuple[str, ...] = ()

  @property
  def silent(self) -> tuple[int, ...]:
    """Which constants `vague` does not tell."""
    count = len(self.ranges)
    return tuple(k for k in range(count) if f"{{{k}}}" not in self.vague)


def _product(*texts: str) -> tuple[Form, ...]:
  """Operand first needs a product, operand last an atom."""
  return tuple(
    Form(
      text,
      Binds.PRODUCT,
      Binds.PRODUCT if text.startswith("{v}") else Binds.ATOM,
    )
    for text in texts
  )


def _sum(*texts: str) -> tuple[Form, ...]:
  return tuple(
    Form(
      text, Binds.SUM, Binds.SUM if text.startswith("{v}") else Binds.PRODUCT
    )
    for text in texts
  )


MULTIPLY = Operation(
  "multiply",
  "multiply by {0}",
  "multiply",
  lambda v, c: v * c[0],
  _product("{v} * {0}", "{0} * {v}"),
  ((2, 5),),
)
ADD = Operation(
  "add",
  "add {0}",
  "add",
  lambda v, c: v + c[0],
  _sum("{v} + {0}", "{0} + {v}"),
  ((1, 9),),
)
SUBTRACT = Operation(
  "subtract",
  "subtract {0}",
  "subtract",
  lambda v, c: v - c[0],
  _sum("{v} - {0}"),
  ((1, 9),),
)
REMAINDER = Operation(
  "remainder",
  "take the remainder by {0}",
  "take the remainder",
  lambda v, c: v % c[0],
  _product("{v} % {0}"),
  ((3, 7),),
)
DIVIDE = Operation(
  "divide",
  "divide by {0} and round down",
  "divide and round down",
  lambda v, c: v // c[0],
  _product("{v} // {0}"),
  ((2, 5),),
)
CAP = Operation(
  "cap",
  "cap at {0}",
  "cap",
  lambda v, c: min(v, c[0]),
  (Form("min({v}, {0})"), Form("min({0}, {v})")),
  ((6, 10),),
  ("if {v} > {0}:", "    {v} = {0}"),
)
RAISE = Operation(
  "raise",
  "raise to at least {0}",
  "raise",
  lambda v, c: max(v, c[0]),
  (Form("max({v}, {0})"), Form("max({0}, {v})")),
  ((2, 5),),
  ("if {v} < {0}:", "    {v} = {0}"),
)
DIGIT_SUM = Operation(
  "digit_sum",
  "sum the digits",
  "sum the digits",
  lambda v, c: sum(map(int, str(v))),
  (Form("sum(map(int, str({v})))"), Form("sum(int(d) for d in str({v}))")),
)
LAST_DIGIT = Operation(
  "last_digit",
  "take the last digit",
  "take the last digit",
  lambda v, c: v % 10,
  (*_product("{v} % 10"), Form("int(str({v})[-1])")),
)
# The last two and BELOW read their operand more than once or bind it in a
# loop: they come first in a chain, where it is a name.
BELOW = Operation(
  "below",
  "add {1} below {0}, else subtract {1}",
  "add below {0}, else subtract",
  lambda v, c: v + c[1] if v < c[0] else v - c[1],
  (Form("{v} + {1} if {v} < {0} else {v} - {1}", Binds.CONDITION, Binds.ATOM),),
  ((3, 8), (1, 5)),
  ("if {v} < {0}:", "    {v} += {1}", "else:", "    {v} -= {1}"),
)
SERIES = Operation(
  "series",
  "sum {0} * i for i up to it",
  "sum multiples of i for i up to it",
  lambda v, c: c[0] * v * (v + 1) // 2,
  (
    Form("sum({0} * i for i in range({v} + 1))"),
    Form("{0} * {v} * ({v} + 1) // 2", Binds.PRODUCT, Binds.ATOM),
  ),
  ((2, 5),),
  ("t = 0", "for i in range({v} + 1):", "    t += {0} * i", "{v} = t"),
)
COUNT = Operation(
  "count",
  "count the multiples of {0} below it",
  "count the multiples below it",
  lambda v, c: len(range(0, v, c[0])),
  (
    Form("len(range(0, {v}, {0}))"),
    Form("({v} + {0} - 1) // {0}", Binds.PRODUCT, Binds.SUM),
  ),
  ((2, 5),),
  ("t = 0", "for i in range(0, {v}, {0}):", "    t += 1", "{v} = t"),
)

REVERSE = Operation(
  "reverse",
  "reverse",
  "reverse",
  lambda v, c: v[::-1],
  (Form("{v}[::-1]", needs=Binds.ATOM), Form('"".join(reversed({v}))')),
)
UPPER = Operation(
  "upper",
  "write in capitals",
  "write in capitals",
  lambda v, c: v.upper(),
  (Form("{v}.upper()", needs=Binds.ATOM),),
)
REPEAT = Operation(
  "repeat",
  "repeat {0} times",
  "repeat",
  lambda v, c: v * c[0],
  _product("{v} * {0}", "{0} * {v}"),
  ((2, 3),),
)
FIRST = Operation(
  "first",
  "keep the first {0}",
  "keep the first",
  lambda v, c: v[: c[0]],
  (Form("{v}[:{0}]", needs=Binds.ATOM),),
  ((1, 3),),
)
DROP = Operation(
  "drop",
  "drop the first {0}",
  "drop the first",
  lambda v, c: v[c[0] :],
  (Form("{v}[{0}:]", needs=Binds.ATOM),),
  ((1, 3),),
)

ADD_EACH = Operation(
  "add_each",
  "add {0} to each",
  "add to each",
  lambda v, c: [i + c[0] for i in v],
  (Form("[i + {0} for i in {v}]"), Form("[{0} + i for i in {v}]")),
  ((1, 9),),
  ("t = []", "for i in {v}:", "    t.append(i + {0})", "{v} = t"),
)
KEEP_ABOVE = Operation(
  "keep_above",
  "keep those above {0}",
  "keep those above a limit",
  lambda v, c: [i for i in v if i > c[0]],
  (Form("[i for i in {v} if i > {0}]"), Form("[i for i in {v} if {0} < i]")),
  ((2, 6),),
  ("t = []", "for i in {v}:", "    if i > {0}:", "        t += [i]", "{v} = t"),
)
TOTAL = Operation(
  "total", "sum", "sum", lambda v, c: sum(v), (Form("sum({v})"),)
)
LARGEST = Operation(
  "largest",
  "take the largest",
  "take the largest",
  lambda v, c: max(v),
  (Form("max({v})"), Form("sorted({v})[-1]")),
)
ORDER = Operation(
  "order", "sort", "sort", lambda v, c: sorted(v), (Form("sorted({v})"),)
)
