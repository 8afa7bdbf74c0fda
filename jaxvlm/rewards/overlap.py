"""BLEU and ROUGE-L of captions, as the COCO caption evaluation takes them."""

import collections
from collections.abc import Sequence

import numpy as np

from jaxvlm.rewards.cider import ORDERS, Caption

_BETA = 1.2  # ROUGE-L: recall counts this much more
# The evaluation's own, so that a caption without a match scores almost 0.
_TINY, _SMALL = 1e-15, 1e-9


def bleu(
  candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]
) -> tuple[np.ndarray, np.ndarray]:
  """Precision of n-grams under a penalty for short captions.

  BLEU_k = min(1, e^(1 − r/c))·(Π_{n ≤ k} right_n / guessed_n)^(1/k)

  Papineni et al., ACL 2002; r is the length of the closest reference.

  Args:
    candidates: n captions.
    references: of each, the captions to compare with.

  Returns:
    (f64[4] of the corpus, f64[n, 4] of each picture), k = 1 … 4.
  """
  counts = np.array(
    [
      _bleu_counts(said, captions)
      for said, captions in zip(candidates, references, strict=True)
    ],
    np.float64,
  ).reshape(-1, 2 * ORDERS + 2)
  return _bleu(counts.sum(0)), _bleu(counts)


def _bleu_counts(said: Caption, captions: Sequence[Caption]) -> list[int]:
  """Returns right n-grams, guessed n-grams, length, closest reference's."""
  most: collections.Counter = collections.Counter()
  for caption in captions:
    most |= caption.ngrams
  right = [0] * ORDERS
  for gram, count in said.ngrams.items():
    right[len(gram) - 1] += min(count, most[gram])
  length = len(said.words)
  guessed = [max(length - n, 0) for n in range(ORDERS)]
  closest = min((abs(len(c.words) - length), len(c.words)) for c in captions)[1]
  return [*right, *guessed, length, closest]


def _bleu(counts: np.ndarray) -> np.ndarray:
  """Returns f64[…, 4] of counts f64[…, 10]."""
  right, guessed = counts[..., :ORDERS], counts[..., ORDERS : 2 * ORDERS]
  length, closest = counts[..., -2:-1], counts[..., -1:]
  product = np.cumprod((right + _TINY) / (guessed + _SMALL), axis=-1)
  ratio = (length + _TINY) / (closest + _SMALL)
  # An empty caption: e^(−∞) = 0.
  penalty = np.exp(np.minimum(0.0, 1.0 - 1.0 / ratio))
  return product ** (1.0 / np.arange(1, ORDERS + 1)) * penalty


def rouge_l(
  candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]
) -> np.ndarray:
  """F-score of the longest common subsequence with the references.

  F = (1 + β²)·P·R / (R + β²·P),  P = max_r lcs/|c|,  R = max_r lcs/|r|

  Lin, ACL 2004, Eq. 2 to 4, with β = 1.2.

  Args:
    candidates: n captions.
    references: of each, the captions to compare with.

  Returns:
    f64[n].
  """
  return np.array(
    [
      _rouge_l(said, captions)
      for said, captions in zip(candidates, references, strict=True)
    ]
  )


def _rouge_l(said: Caption, captions: Sequence[Caption]) -> float:
  common = [_common(said.words, one.words) for one in captions]
  if not any(common):
    return 0.0
  precision = max(common) / len(said.words)
  recall = max(
    n / len(c.words) for n, c in zip(common, captions, strict=True) if n
  )
  square = _BETA**2
  return (1 + square) * precision * recall / (recall + square * precision)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
  """Returns the length of the longest common subsequence.

  A row of the table is kept in the bits of a number: a 0 where the length
  grows (Hyyrö, 2004).
  """
  places: dict[str, int] = collections.defaultdict(int)
  for at, word in enumerate(one):
    places[word] |= 1 << at
  whole = (1 << len(one)) - 1
  row = whole
  for word in other:
    match = row & places[word]
    row = (row + match | row - match) & whole
  return len(one) - row.bit_count()
