"""CIDEr-D: what a caption shares with others, weighed by how rare it is."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

ORDERS = 4  # n-grams of one to four words
_SIGMA = 6.0

Ngram = tuple[str, ...]


class Caption(NamedTuple):
  """A caption cut into words.

  Attributes:
    words: in order.
    ngrams: how often each n-gram of one to four words occurs.
  """

  words: Sequence[str]
  ngrams: Mapping[Ngram, int]


class Frequencies(NamedTuple):
  """In how many pictures' references an n-gram occurs.

  Attributes:
    counts: n-gram -> pictures.
    pictures: how many there are.
  """

  counts: Mapping[Ngram, int]
  pictures: int


class _Vector(NamedTuple):
  """Weights of one caption's n-grams.

  Attributes:
    weights: by order: n-gram -> tf·idf.
    norms: by order: their Euclidean length.
    length: of the caption.
  """

  weights: tuple[dict[Ngram, float], ...]
  norms: tuple[float, ...]
  length: int


def caption(words: Sequence[str]) -> Caption:
  """Returns a caption of its words; its n-grams are counted once for all."""
  count = collections.Counter(
    tuple(words[at : at + n])
    for n in range(1, ORDERS + 1)
    for at in range(len(words) - n + 1)
  )
  return Caption(words, count)


def frequencies(references: Sequence[Sequence[Caption]]) -> Frequencies:
  """Returns the document frequencies of a corpus of references.

  Args:
    references: of every picture, its captions.
  """
  counts: collections.Counter[Ngram] = collections.Counter()
  for captions in references:
    counts.update(set().union(*(one.ngrams for one in captions)))
  return Frequencies(counts, len(references))


def cider_d(
  candidates: Sequence[Caption],
  references: Sequence[Sequence[Caption]],
  corpus: Frequencies,
) -> np.ndarray:
  """Mean likeness of a caption to its references, in rare words most of all.

  CIDEr-D = 10·mean_n mean_r e^(−(l_c − l_r)²/2σ²)·min(g_c, g_r)·g_r/‖g_c‖‖g_r‖

  arXiv:1411.5726, Eq. 5 to 7; g = tf·(ln N − ln max(1, df)), σ = 6.

  Args:
    candidates: n captions.
    references: of each, the captions to compare with.
    corpus: document frequencies; those of the references, or of a larger set.

  Returns:
    f64[n], 0 to 10.
  """
  scores = np.zeros(len(candidates))
  for at, (said, captions) in enumerate(
    zip(candidates, references, strict=True)
  ):
    vector = _vector(said, corpus)
    likeness = [_likeness(vector, _vector(one, corpus)) for one in captions]
    scores[at] = 10 * sum(likeness) / len(likeness)
  return scores


def _vector(caption: Caption, corpus: Frequencies) -> _Vector:
  weights: tuple[dict[Ngram, float], ...] = tuple({} for _ in range(ORDERS))
  most = math.log(max(corpus.pictures, 1))
  for gram, count in caption.ngrams.items():
    rare = most - math.log(max(1, corpus.counts.get(gram, 0)))
    weights[len(gram) - 1][gram] = count * rare
  norms = tuple(math.sqrt(sum(w * w for w in g.values())) for g in weights)
  # The reference code counts pairs of words here; differences are the same but
  # where a caption is empty.
  return _Vector(weights, norms, max(len(caption.words) - 1, 0))


def _likeness(candidate: _Vector, reference: _Vector) -> float:
  """Returns the mean over orders of one reference's term."""
  total = 0.0
  for mine, other, norm, other_norm in zip(
    candidate.weights,
    reference.weights,
    candidate.norms,
    reference.norms,
    strict=True,
  ):
    if norm and other_norm:
      shared = sum(
        min(weight, other[gram]) * other[gram]
        for gram, weight in mine.items()
        if gram in other
      )
      total += shared / (norm * other_norm)
  gap = candidate.length - reference.length
  return total / ORDERS * math.exp(-gap * gap / (2 * _SIGMA**2))
