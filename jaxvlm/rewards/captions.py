"""Scores of captions by reference captions: CIDEr-D, BLEU and ROUGE-L."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from jaxvlm.rewards.caption_words import words
from jaxvlm.rewards.cider import (
  Caption,
  Frequencies,
  caption,
  cider_d,
  frequencies,
)
from jaxvlm.rewards.overlap import bleu, rouge_l

# Control characters but ends of lines and tabs, and halves of characters.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class CaptionScores(dict[str, float]):
  """Scores of a corpus by name: CIDEr, Bleu_1 … Bleu_4, ROUGE_L.

  Attributes:
    per_image: f64[n] by the same names. A corpus' BLEU is not their mean.
  """

  def __init__(
    self, corpus: dict[str, float], per_image: dict[str, np.ndarray]
  ):
    super().__init__(corpus)
    self.per_image = per_image


def score_captions(
  candidates: Sequence[str],
  references: Sequence[Sequence[str]],
  *,
  tokenized: bool = False,
  corpus: Frequencies | None = None,
) -> CaptionScores:
  """Scores one caption of every picture, as the COCO evaluation does.

  arXiv:1504.00325, Section 3. The equations stand at `cider.cider_d`,
  `overlap.bleu` and `overlap.rouge_l`.

  Args:
    candidates: n captions, whatever a model wrote; an empty one scores 0.
    references: of each, one caption or several, as people wrote them.
    tokenized: the texts are words in lower case between spaces already.
    corpus: document frequencies of CIDEr (`caption_frequencies`); None takes
      those of `references`, which must then be of many pictures: of one alone,
      no word is rare and all are worth nothing.

  Returns:
    The scores; CIDEr 0 to 10, the others 0 to 1.

  Raises:
    ValueError: no captions, not as many references, a picture without
      references or with an empty one, a control character in a reference.
  """
  for name, texts in (("candidates", candidates), ("references", references)):
    if isinstance(texts, str):
      raise ValueError(
        f"{name} is one text, expected a list: put it in brackets"
      )
  if not candidates or len(candidates) != len(references):
    raise ValueError(
      f"{len(candidates)} candidates and references of {len(references)}"
      " pictures, expected one caption and its references for each picture"
    )
  cut = str.split if tokenized else words
  said = [caption(cut(_CONTROL.sub(" ", text))) for text in candidates]
  true = [
    _references(captions, f"references of picture {at}", cut)
    for at, captions in enumerate(references)
  ]
  blended, each = bleu(said, true)
  per_image = {
    "CIDEr": cider_d(said, true, corpus or frequencies(true)),
    **{f"Bleu_{k + 1}": column for k, column in enumerate(each.T)},
    "ROUGE_L": rouge_l(said, true),
  }
  means = {name: float(values.mean()) for name, values in per_image.items()}
  whole = {f"Bleu_{k + 1}": float(value) for k, value in enumerate(blended)}
  return CaptionScores(means | whole, per_image)


def caption_frequencies(
  references: Sequence[Sequence[str]], *, tokenized: bool = False
) -> Frequencies:
  """Returns the document frequencies of a corpus, for `score_captions`.

  Args:
    references: of every picture, its captions.
    tokenized: as there.

  Raises:
    ValueError: as there.
  """
  cut = str.split if tokenized else words
  return frequencies(
    [
      _references(captions, f"references of picture {at}", cut)
      for at, captions in enumerate(references)
    ]
  )


def checked_caption(text: str, told: str) -> str:
  """Returns `text`; ValueError unless it is a caption of a reference.

  Args:
    text: a caption. Ends of lines and tabs are spaces.
    told: names it in messages.
  """
  if not isinstance(text, str):
    raise ValueError(f"{told} is a {type(text).__name__}, expected a text")
  strange = _CONTROL.search(text)
  if strange:
    raise ValueError(
      f"{told} contains the control character {strange.group()!r}:"
      f" {text[:60]!r}; expected a sentence"
    )
  if not text.strip():
    raise ValueError(f"{told} is empty, expected a sentence")
  return text


def _references(
  captions: Sequence[str], told: str, cut: Callable[[str], list[str]]
) -> list[Caption]:
  if isinstance(captions, str) or not captions:
    found = "one text" if captions else "empty"
    raise ValueError(f"{told} are {found}, expected a list of captions")
  return [caption(cut(checked_caption(text, told))) for text in captions]
