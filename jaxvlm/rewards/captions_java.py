"""METEOR and SPICE of captions: their authors' Java, where it is installed."""

import importlib
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxvlm.rewards.caption_words import words
from jaxvlm.rewards.captions import CaptionScores, checked_caption

NAMES = ("METEOR", "SPICE")


def java_scores(
  candidates: Sequence[str],
  references: Sequence[Sequence[str]],
  *,
  names: Sequence[str] = NAMES,
) -> CaptionScores:
  """Scores captions by METEOR and SPICE through `pycocoevalcap`.

  METEOR 1.5 (Denkowski & Lavie, WMT 2014) and SPICE (arXiv:1607.08822). SPICE
  fetches its parser's models when it runs for the first time.

  Args:
    candidates: n captions.
    references: of each, its captions.
    names: of `NAMES`.

  Returns:
    The scores, 0 to 1 each, as `score_captions` returns its own.

  Raises:
    ValueError: an unknown name, no Java, no `pycocoevalcap`, a text that is no
      caption.
  """
  unknown = sorted(set(names) - set(NAMES))
  if unknown:
    raise ValueError(f"names are {unknown}, expected some of {NAMES}")
  if shutil.which("java") is None:
    raise ValueError(
      f"{' and '.join(names)} run in Java, and there is no `java` on the PATH:"
      " install a Java runtime, or ask for CIDEr, BLEU and ROUGE-L"
      " (score_captions), which need none"
    )
  said = {at: [" ".join(words(text))] for at, text in enumerate(candidates)}
  true = {
    at: [
      " ".join(words(checked_caption(text, f"references of picture {at}")))
      for text in captions
    ]
    for at, captions in enumerate(references)
  }
  corpus, per_image = {}, {}
  for name in names:
    mean, each = _scorer(name).compute_score(true, said)
    corpus[name] = float(mean)
    per_image[name] = np.array([_number(one) for one in each])
  return CaptionScores(corpus, per_image)


def _scorer(name: str) -> Any:
  """Returns the package's scorer of this name."""
  module = f"pycocoevalcap.{name.lower()}.{name.lower()}"
  try:
    found = importlib.import_module(module)
  except ImportError as error:
    raise ValueError(
      f"{name} needs pycocoevalcap, which cannot be imported ({error}): `pip"
      " install 'jaxvlm[captions]'`, or ask for CIDEr, BLEU and ROUGE-L"
    ) from error
  return getattr(found, name.capitalize())()


def _number(one: Any) -> float:
  """Returns a picture's score; SPICE gives it among its parts."""
  return float(one["All"]["f"] if isinstance(one, dict) else one)
