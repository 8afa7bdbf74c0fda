"""What a terminal shows of answers: their order, their colors, their counts."""

import collections
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from jaxvlm.rewards import canonical, extract_boxed
from jaxvlm.rollout.answer import Word

# 256-color codes from certain (blue) to undecided (red).
_SHADES = (33, 39, 44, 49, 154, 220, 208, 202, 196)
_SCALE = 2.0  # nats at the red end
# A model may write what a terminal would obey; it is shown instead.
_CONTROLS = {c: 0x2400 + c for c in range(32) if chr(c) not in "\n\t"}
_CONTROLS |= {127: 0x2421, **{c: 0xFFFD for c in range(128, 160)}}


def plain(word: Word) -> str:
  """Returns the text of a token, harmless to a terminal."""
  return word.text.translate(_CONTROLS)


def paint(word: Word) -> str:
  """Returns the same in the color of the token's entropy."""
  text = plain(word)
  return f"\033[38;5;{_shade(word.entropy)}m{text}\033[0m" if text else ""


def _shade(entropy: float) -> int:
  step = int(max(entropy, 0.0) / _SCALE * len(_SHADES))
  return _SHADES[min(step, len(_SHADES) - 1)]


class Answer(NamedTuple):
  """One answer as a whole.

  Attributes:
    text: of the answer.
    tokens: how many it has.
    entropy: mean over its tokens, nats.
  """

  text: str
  tokens: int
  entropy: float


def answers(words: Iterable[Word], n: int) -> list[Answer]:
  """Returns the n answers that mixed words belong to."""
  of: list[list[Word]] = [[] for _ in range(n)]
  for word in words:
    of[word.completion].append(word)
  return [
    Answer(
      "".join(word.text for word in said),
      len(said),
      sum(word.entropy for word in said) / max(len(said), 1),
    )
    for said in of
  ]


def legend() -> str:
  """Returns one line that says what the colors mean."""
  blocks = "".join(f"\033[38;5;{shade}m█" for shade in _SHADES)
  return f"entropy: 0 {blocks}\033[0m {_SCALE:g} nats and more"


def in_order(
  words: Iterable[Word], n: int, show: Callable[[Word], str]
) -> Iterator[str]:
  """Yields what to print so that n answers stand one below the other.

  Words arrive mixed; those of the first unfinished answer are shown at once,
  others wait for their turn.
  """
  waiting: list[list[Word]] = [[] for _ in range(n)]
  turn = 0
  for word in words:
    waiting[word.completion].append(word)
    while turn < n and waiting[turn]:
      ready, waiting[turn] = waiting[turn], []
      yield "".join(map(show, ready))
      if not ready[-1].last:
        break
      yield "\n"
      turn += 1


def count(texts: Iterable[str]) -> str:
  """Returns the distinct answers, the most common first.

  Spellings of one answer count as one (`rewards.canonical`), shown as the most
  common of them.
  """
  spellings: dict[str, collections.Counter] = {}
  for text in texts:
    key, shown = _answer(text)
    spellings.setdefault(key, collections.Counter())[shown] += 1
  ordered = sorted(spellings.values(), key=lambda c: -c.total())
  total = sum(c.total() for c in ordered)
  lines = [f"\n{len(ordered)} distinct answers in {total}:"]
  lines += [f"{c.total():5d}  {c.most_common(1)[0][0]}" for c in ordered]
  return "\n".join(lines)


def _answer(text: str) -> tuple[str, str]:
  """Returns what an answer is counted as, and what is shown of it.

  That is what is in the box, or the whole of a text without one.
  """
  found = extract_boxed(text) or text
  line = textwrap.shorten(found, 72, placeholder=" …")
  return canonical(found), line.translate(_CONTROLS) or "(no text)"
