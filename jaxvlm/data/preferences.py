"""Pairs of a chosen and a rejected response, made from rows of any source."""

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence

from jaxvlm.data import negatives
from jaxvlm.data.negatives import Kind, Lexicon, Negative
from jaxvlm.data.rows import Row

_ATTEMPTS = 32  # other rows that are asked for a text that is not right here


def one_negative_each(rows: Sequence[Row]) -> list[Row]:
  """Returns a row for every rejected response: pairs have one (G = 2).

  Args:
    rows: with the chosen response first, and one or several rejected.

  Raises:
    ValueError: a row without a rejected response.
  """
  out = []
  for row in rows:
    if len(row.responses) < 2:
      raise ValueError(
        f"row {row.id!r} has {len(row.responses)} response(s), expected the"
        " chosen one and at least one rejected"
      )
    kinds = row.kinds or ("", *[Kind.FILE] * (len(row.responses) - 1))
    out += [
      dataclasses.replace(
        row,
        id=row.id if len(row.responses) == 2 else f"{row.id}~{number}",
        responses=(row.responses[0], rejected),
        kinds=("", str(kind)),
      )
      for number, (rejected, kind) in enumerate(
        zip(row.responses[1:], kinds[1:], strict=True)
      )
    ]
  return out


def contrasted(
  rows: Sequence[Row],
  kinds: Sequence[Kind],
  *,
  lexicon: Lexicon = negatives.COMMON,
  seed: int = 0,
  right: Callable[[Row], Sequence[str]] | None = None,
) -> list[Row]:
  """Returns the rows with a negative beside their first response.

  Its kind is drawn from `kinds`, among those that the text allows: a color can
  be changed only where one is named. Where none is allowed, it is another row's
  response.

  Args:
    rows: at least two, with a response each.
    kinds: of `negatives.GENTLE`, `negatives.EASY` and `Kind.NUMBER`.
    lexicon: words that stand for one another.
    seed: root of the draws; a negative depends on it, its row and its place.
    right: row -> the texts that are right for it and thus no negatives; None:
      its responses.

  Raises:
    ValueError: a kind that no rule makes, fewer than two rows, a row without a
      response, or one for which every other row's response is right.
  """
  made = {*negatives.GENTLE, *negatives.EASY, Kind.NUMBER}
  if not kinds or set(kinds) - made:
    raise ValueError(
      f"kinds are {tuple(map(str, kinds))}, expected some of"
      f" {', '.join(sorted(made))}"
    )
  if len(rows) < 2:
    raise ValueError(
      f"{len(rows)} row(s), expected at least 2: another row's response is a"
      " negative"
    )
  silent = [row.id for row in rows if not row.responses]
  if silent:
    raise ValueError(f"row {silent[0]!r} has no response, expected the chosen")
  said = [_texts(row) for row in rows]
  chosen, out = [texts[0] for texts in said], []
  for at, row in enumerate(rows):
    rng = random.Random(repr((seed, row.id, at)))
    rights = right(row) if right else said[at]
    wrong = _wrong(row.id, chosen[at], chosen, kinds, lexicon, rights, rng)
    both = (chosen[at], wrong.text)
    out.append(
      dataclasses.replace(row, responses=both, kinds=("", str(wrong.kind)))
    )
  return out


def _texts(row: Row) -> list[str]:
  """Returns a row's responses; ValueError for one of several turns."""
  texts = [said for said in row.responses if isinstance(said, str)]
  if len(texts) != len(row.responses):
    raise ValueError(
      f"row {row.id!r} has a response of several turns, expected texts: what is"
      " wrong by a word is made of a text"
    )
  return texts


def _wrong(
  id: str,
  text: str,
  others: Sequence[str],
  kinds: Sequence[Kind],
  lexicon: Lexicon,
  right: Sequence[str],
  rng: random.Random,
) -> Negative:
  """Returns a negative of the first kind, in random order, that allows one."""
  edits = negatives.minimal_edits(text, lexicon)
  for kind in (*rng.sample(kinds, len(kinds)), Kind.OTHER_PICTURE):
    wrong = [
      one
      for one in _candidates(kind, text, others, edits, rng)
      if not any(negatives.same(one.text, other) for other in right)
    ]
    if wrong:
      return rng.choice(wrong)
  raise ValueError(
    f"{id!r}: the responses of {_ATTEMPTS} other rows are right here, too;"
    " expected rows that differ"
  )


def _candidates(
  kind: Kind,
  text: str,
  others: Sequence[str],
  edits: Sequence[Negative],
  rng: random.Random,
) -> Iterator[Negative]:
  if kind == Kind.OTHER_PICTURE:
    for _ in range(_ATTEMPTS):
      yield Negative(rng.choice(others), kind)
  elif kind == Kind.NUMBER:
    yield from negatives.number_edits(text)
  elif kind in negatives.EASY:
    make = {
      Kind.SHUFFLED: negatives.shuffled,
      Kind.TRUNCATED: negatives.truncated,
    }[kind]
    found = make(text, rng)
    yield from () if found is None else (found,)
  else:
    yield from (edit for edit in edits if edit.kind == kind)
