"""Wrong answers made from right ones: by one word, by a number, and easy ones.

A preference needs a rejected text beside the chosen one, and what training does
depends on what kind it is (arXiv:2510.11978): gentle ones differ in one word,
easy ones are nonsense. The kind stays with the text.
"""

import dataclasses
import enum
import random
import re
from collections.abc import Iterator
from typing import NamedTuple


class Kind(enum.StrEnum):
  """Where a negative comes from."""

  OBJECT = "object"
  COLOR = "color"
  COUNT = "count"
  RELATION = "relation"
  ATTRIBUTE = "attribute"
  NUMBER = "number"
  OTHER_PICTURE = "other_picture"
  SHUFFLED = "shuffled"
  TRUNCATED = "truncated"
  POLICY = "policy"  # sampled from the model that is trained
  FILE = "file"  # stands in the data set; nothing more is known


# Differ from the chosen text in one word.
GENTLE = (
  Kind.OBJECT,
  Kind.COLOR,
  Kind.COUNT,
  Kind.RELATION,
  Kind.ATTRIBUTE,
)
EASY = (Kind.OTHER_PICTURE, Kind.SHUFFLED, Kind.TRUNCATED)


class Negative(NamedTuple):
  """A wrong text and its kind."""

  text: str
  kind: Kind


@dataclasses.dataclass(frozen=True)
class Lexicon:
  """Words that stand for one another in captions.

  Attributes:
    nouns: groups of (singular, plural) of which one takes another's place.
    words: kind -> groups of words of which one takes another's place.
    single: words that count one thing, the one that is written first.
    several: words that count more.
    mirrors: pairs of words or phrases; a caption is mirrored as a whole, so
      that "left … right" becomes "right … left".
  """

  nouns: tuple[tuple[tuple[str, str], ...], ...]
  words: dict[Kind, tuple[tuple[str, ...], ...]]
  single: tuple[str, ...]
  several: tuple[str, ...]
  mirrors: tuple[tuple[str, str], ...]


# What captions of photographs speak of most; ours, not taken from a data set.
COMMON = Lexicon(
  nouns=(
    (("man", "men"), ("woman", "women")),
    (("boy", "boys"), ("girl", "girls")),
    (("dog", "dogs"), ("cat", "cats"), ("horse", "horses"), ("cow", "cows")),
    (("elephant", "elephants"), ("giraffe", "giraffes"), ("zebra", "zebras")),
    (("car", "cars"), ("bus", "buses"), ("truck", "trucks")),
    (("train", "trains"), ("plane", "planes"), ("boat", "boats")),
    (("motorcycle", "motorcycles"), ("bicycle", "bicycles")),
    (("table", "tables"), ("chair", "chairs"), ("bench", "benches")),
    (("pizza", "pizzas"), ("sandwich", "sandwiches"), ("cake", "cakes")),
    (("cup", "cups"), ("bottle", "bottles"), ("bowl", "bowls")),
    (("skateboard", "skateboards"), ("surfboard", "surfboards")),
    (("apple", "apples"), ("banana", "bananas"), ("orange", "oranges")),
  ),
  words={
    Kind.COLOR: (
      ("red", "blue", "green", "yellow", "purple"),
      ("black", "white", "brown", "gray"),
    ),
    Kind.ATTRIBUTE: (
      ("small", "large"),
      ("little", "big"),
      ("young", "old"),
      ("tall", "short"),
      ("wooden", "metal", "plastic"),
      ("empty", "full"),
      ("open", "closed"),
      ("wet", "dry"),
    ),
  },
  single=("a", "an", "one"),
  several=("two", "three", "four", "five", "six"),
  mirrors=(
    ("left", "right"),
    ("above", "below"),
    ("over", "under"),
    ("in front of", "behind"),
    ("inside", "outside"),
    ("top", "bottom"),
  ),
)

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_VOWELS = "aeiou"
_REACH = 3  # a count binds a noun that is at most so many words behind it


def minimal_edits(caption: str, lexicon: Lexicon) -> list[Negative]:
  """Returns every way to make a caption wrong by one word of a lexicon.

  Number and article follow: "a dog" becomes "two dogs" and "an elephant".

  Args:
    caption: one sentence.
    lexicon: which words stand for one another.
  """
  found = [
    *_noun_edits(caption, lexicon),
    *_word_edits(caption, lexicon),
    *_count_edits(caption, lexicon),
    *_mirrored(caption, lexicon),
  ]
  return [edit for edit in dict.fromkeys(found) if edit.text != caption]


def number_edits(text: str) -> list[Negative]:
  """Returns every way to change one number of a text by a slip.

  A digit more or less at the last place, or two neighbors in the wrong order.

  Args:
    text: with or without numbers.
  """
  found = []
  for match in _NUMBER.finditer(text):
    for other in _near(match.group()):
      changed = text[: match.start()] + other + text[match.end() :]
      found.append(Negative(changed, Kind.NUMBER))
  return list(dict.fromkeys(found))


def _near(number: str) -> Iterator[str]:
  last = int(number[-1])
  for digit in (last - 1, last + 1):
    if 0 <= digit <= 9:
      yield f"{number[:-1]}{digit}"
  for at in range(len(number) - 1):
    first, second = number[at], number[at + 1]
    swapped = f"{number[:at]}{second}{first}{number[at + 2 :]}"
    # 30 read backwards is no number that one writes.
    if first != second and "." not in (first, second) and swapped[0] != "0":
      yield swapped


def shuffled(text: str, rng: random.Random) -> Negative | None:
  """Returns the words of a text in another order; None if there is none."""
  words = text.split()
  if len(set(words)) < 2:
    return None
  while True:
    mixed = rng.sample(words, len(words))
    if mixed != words:
      return Negative(" ".join(mixed), Kind.SHUFFLED)


def truncated(text: str, rng: random.Random) -> Negative | None:
  """Returns a quarter to three quarters of a text; None if it is one word."""
  words = text.split()
  if len(words) < 2:
    return None
  least = max(1, len(words) // 4)
  kept = rng.randint(least, max(least, 3 * len(words) // 4))
  return Negative(" ".join(words[:kept]), Kind.TRUNCATED)


def same(text: str, other: str) -> bool:
  """Whether two texts are one but for case, spaces and a last full stop."""
  return _plain(text) == _plain(other)


def _plain(text: str) -> str:
  return " ".join(text.lower().split()).rstrip(" .")


def _noun_edits(caption: str, lexicon: Lexicon) -> Iterator[Negative]:
  for match in _WORD.finditer(caption):
    for group in lexicon.nouns:
      for form in (0, 1):
        nouns = [noun[form] for noun in group]
        if match.group().lower() in nouns:
          for other in nouns:
            yield Negative(_replaced(caption, match, other), Kind.OBJECT)


def _word_edits(caption: str, lexicon: Lexicon) -> Iterator[Negative]:
  for match in _WORD.finditer(caption):
    for kind, groups in lexicon.words.items():
      for group in groups:
        if match.group().lower() in group:
          for other in group:
            yield Negative(_replaced(caption, match, other), kind)


def _replaced(caption: str, match: re.Match, word: str) -> str:
  """Returns a caption with another word; case and article follow."""
  before, after = caption[: match.start()], caption[match.end() :]
  article = re.search(r"\b([Aa])n?( )$", before)
  if article:
    n = "n" if word[0] in _VOWELS else ""
    before = before[: article.start()] + f"{article[1]}{n} "
  return before + _as_written(match.group(), word) + after


def _as_written(before: str, word: str) -> str:
  return word.capitalize() if before[0].isupper() else word


def _count_edits(caption: str, lexicon: Lexicon) -> Iterator[Negative]:
  plural = dict(noun for group in lexicon.nouns for noun in group)
  singular = {several: one for one, several in plural.items()}
  words = list(_WORD.finditer(caption))
  for at, match in enumerate(words):
    count = match.group().lower()
    if count in lexicon.several:
      yield from (
        Negative(_replaced(caption, match, other), Kind.COUNT)
        for other in lexicon.several
      )
      forms, counts, verbs = singular, lexicon.single[:1], ("are", "is")
    elif count in lexicon.single:
      forms, counts, verbs = plural, lexicon.several, ("is", "are")
    else:
      continue
    behind = words[at + 1 : at + 2 + _REACH]
    noun = next((w for w in behind if w.group().lower() in forms), None)
    if noun is None:
      continue
    end = caption[match.end() : noun.start()] + forms[noun.group().lower()]
    start = _verb_before(caption[: match.start()], *verbs)
    for other in counts:
      written = _as_written(match.group(), other)
      text = f"{start}{written}{end}{caption[noun.end() :]}"
      yield Negative(text, Kind.COUNT)


def _verb_before(text: str, found: str, wanted: str) -> str:
  """Returns a text that ends in a verb with the verb in the other number."""
  if not text.endswith(f" {found} "):
    return text
  return text.removesuffix(f"{found} ") + f"{wanted} "


def _mirrored(caption: str, lexicon: Lexicon) -> Iterator[Negative]:
  others = dict(lexicon.mirrors) | {b: a for a, b in lexicon.mirrors}
  phrases = "|".join(sorted(others, key=len, reverse=True))

  def other(match: re.Match) -> str:
    return _as_written(match.group(), others[match.group().lower()])

  text = re.sub(rf"\b(?:{phrases})\b", other, caption, flags=re.IGNORECASE)
  yield Negative(text, Kind.RELATION)
