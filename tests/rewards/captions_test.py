"""Caption scores: published figures, formulas in loops, bad input."""

import collections
import gzip
import itertools
import json
import math
import random
import sys
import time
import types

import numpy as np
import pytest

from jaxvlm.eval import captions as from_eval
from jaxvlm.rewards import captions_java
from jaxvlm.rewards.caption_words import words
from jaxvlm.rewards.captions import caption_frequencies, score_captions
from tests.data.pack import SHARED

PACK = SHARED / "coco"
needs_pack = pytest.mark.skipif(
  not PACK.is_dir(), reason="the data pack's coco/ is not beside the checkout"
)
NAMES = ("CIDEr", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L")


def _read(name):
  return json.loads(gzip.decompress((PACK / name).read_bytes()))


@pytest.fixture(scope="module")
def fixture():
  return _read("fakecap_fixture.json.gz")


def _scores(fixture, form):
  items = fixture["items"]
  return score_captions(
    [item[f"candidate_{form}"] for item in items],
    [item[f"references_{form}"] for item in items],
    tokenized=form == "tokenized",
  )


@needs_pack
def test_published_scores_of_words(fixture):
  found = _scores(fixture, "tokenized")
  assert tuple(found) == NAMES
  for name, value in fixture["recomputed"].items():
    assert found[name] == pytest.approx(value, abs=1e-4), name
  for name, tolerance in (("CIDEr", 1e-3), ("ROUGE_L", 1e-4), ("Bleu_4", 1e-4)):
    wanted = [item["scores"][name] for item in fixture["items"]]
    np.testing.assert_allclose(
      found.per_image[name], wanted, rtol=0, atol=tolerance
    )


@needs_pack
def test_published_scores_of_raw_captions(fixture):
  found = _scores(fixture, "raw")
  for name, value in fixture["recomputed"].items():
    assert found[name] == pytest.approx(value, abs=2e-3), name


@needs_pack
def test_words_are_cut_as_published(fixture):
  pairs = [
    pair
    for item in fixture["items"]
    for pair in (
      (item["candidate_raw"], item["candidate_tokenized"]),
      *zip(item["references_raw"], item["references_tokenized"], strict=True),
    )
  ]
  same = [" ".join(words(raw)) == cut for raw, cut in pairs]
  assert len(same) == 6005
  assert np.mean(same) >= 0.995


@needs_pack
@pytest.mark.slow  # 6 s of CPU
def test_a_test_split_is_scored_in_seconds():
  captions = list(_read("karpathy_test_captions.json.gz").values())
  started = time.process_time()
  found = score_captions([c[0] for c in captions], [c[1:] for c in captions])
  assert time.process_time() - started <= 10
  assert len(found.per_image["CIDEr"]) == 5000
  # People agree with one another about as much as papers say.
  assert 0.8 < found["CIDEr"] < 1.0


@pytest.mark.parametrize(
  "text, cut",
  [
    ("A man's dog, on the bed.", "a man 's dog on the bed"),
    ("It doesn't (really) fit!", "it does n't -lrb- really -rrb- fit"),
    ("First St. and Morgan Rd.", "first st. and morgan rd."),
    ("bananas, pears, etc.", "bananas pears etc."),
    ("A T-shirt - red; #25 at 5:55", "a t-shirt red # 25 at 5:55"),
    ('"Stop" -- in the U.S.A. ...', "stop in the u.s.a."),
    ("They cannot, won't; I'm gonna", "they can not wo n't i 'm gon na"),
    ("end.\nNext\tline", "end next line"),
    ("$5.00 & 10% of 1,000", "$ 5.00 & 10 % of 1,000"),
    ("the 80's, the '90s", "the 80 's the '90s"),
    ("", ""),
    (" .,! ? ", ""),
  ],
)
def test_treebank_rules(text, cut):
  assert " ".join(words(text)) == cut


def test_words_of_any_text_in_linear_time():
  """Runs of one character and odd Unicode neither fail nor take long."""
  pieces = ["a.", "a-", "'s", "n't", "@", "/", "1,", "é", "‘", "\u200d", "😀"]
  started = time.process_time()
  for piece in pieces:
    text = piece * 4000
    assert "".join(words(text)).count("a") == text.count("a")
  assert time.process_time() - started < 5


def _slow_cider(candidates, references, corpus):
  """arXiv:1411.5726, Eq. 5 to 7, n-gram by n-gram, in float64."""

  def grams(text, n):
    cut = text.split()
    return [tuple(cut[i : i + n]) for i in range(len(cut) - n + 1)]

  def weight(text, n, gram):
    found = sum(gram in grams(r, n) for refs in corpus for r in refs) and sum(
      any(gram in grams(r, n) for r in refs) for refs in corpus
    )
    return grams(text, n).count(gram) * (
      math.log(len(corpus)) - math.log(max(1, found))
    )

  out = []
  for text, refs in zip(candidates, references, strict=True):
    total = 0.0
    for n, ref in itertools.product((1, 2, 3, 4), refs):
      mine = {g: weight(text, n, g) for g in grams(text, n)}
      other = {g: weight(ref, n, g) for g in grams(ref, n)}
      norm = math.dist(mine.values(), [0] * len(mine)) * math.dist(
        other.values(), [0] * len(other)
      )
      if norm:
        shared = sum(
          min(w, other.get(g, 0)) * other.get(g, 0) for g, w in mine.items()
        )
        gap = len(text.split()) - len(ref.split())
        total += shared / norm * math.exp(-(gap**2) / 72)
    out.append(10 * total / 4 / len(refs))
  return out


def _table(one, other):
  """The longest common subsequence by its table."""
  rows = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
  for i, a in enumerate(one):
    for j, b in enumerate(other):
      longer = max(rows[i][j + 1], rows[i + 1][j])
      rows[i + 1][j + 1] = rows[i][j] + 1 if a == b else longer
  return rows[-1][-1]


def _slow_rouge(text, refs):
  common = [_table(text.split(), r.split()) for r in refs]
  p = max(c / len(text.split()) for c in common)
  r = max(c / len(ref.split()) for c, ref in zip(common, refs, strict=True))
  return 2.44 * p * r / (r + 1.44 * p) if p else 0


def _slow_bleu(texts, references, k):
  right, guessed, length, closest = [0] * k, [0] * k, 0, 0
  for text, refs in zip(texts, references, strict=True):
    cut, sizes = text.split(), [len(r.split()) for r in refs]
    length += len(cut)
    closest += min(sizes, key=lambda s: (abs(s - len(cut)), s))
    for n in range(1, k + 1):

      def count(sentence, n=n):
        c = sentence.split()
        return collections.Counter(
          tuple(c[i : i + n]) for i in range(len(c) - n + 1)
        )

      for gram, found in count(text).items():
        right[n - 1] += min(found, max(count(r)[gram] for r in refs))
        guessed[n - 1] += found
  product = math.prod(
    (r + 1e-15) / (g + 1e-9) for r, g in zip(right, guessed, strict=True)
  )
  return product ** (1 / k) * min(1, math.exp(1 - closest / length))


def test_scores_are_their_formulas():
  rng = random.Random(0)

  def sentence():
    return " ".join(rng.choices("abcdef", k=rng.randint(2, 9)))

  references = [
    [sentence() for _ in range(rng.randint(1, 4))] for _ in range(9)
  ]
  candidates = [sentence() for _ in references]
  found = score_captions(candidates, references, tokenized=True)
  np.testing.assert_allclose(
    found.per_image["CIDEr"],
    _slow_cider(candidates, references, references),
    atol=1e-12,
  )
  assert found["CIDEr"] == pytest.approx(found.per_image["CIDEr"].mean())
  np.testing.assert_allclose(
    found.per_image["ROUGE_L"],
    list(map(_slow_rouge, candidates, references)),
    atol=1e-12,
  )
  for k in (1, 2, 3, 4):
    one = _slow_bleu(candidates[:1], references[:1], k)
    assert found.per_image[f"Bleu_{k}"][0] == pytest.approx(one, rel=1e-6)
    whole = _slow_bleu(candidates, references, k)
    assert found[f"Bleu_{k}"] == pytest.approx(whole, rel=1e-6)


def test_frequencies_may_come_from_a_larger_corpus():
  large = [["a b c d"], ["a b e f"], ["g h i j"], ["a x y z"]]
  corpus = caption_frequencies(large, tokenized=True)
  few = score_captions(
    ["a b c d"], [["a b c e"]], tokenized=True, corpus=corpus
  )
  wanted = _slow_cider(["a b c d"], [["a b c e"]], large)
  assert few["CIDEr"] == pytest.approx(wanted[0]) and few["CIDEr"] > 1
  # Of one picture alone, no word is rare.
  alone = score_captions(["a b c d"], [["a b c d"]], tokenized=True)
  assert alone["CIDEr"] == 0 and alone["Bleu_4"] == pytest.approx(1)


def test_an_empty_candidate_scores_nothing():
  found = score_captions(
    ["", "a dog runs far"], [["a dog"], ["a dog runs far"]]
  )
  for name in NAMES:
    assert found.per_image[name][0] == pytest.approx(0, abs=1e-6)
  assert found.per_image["ROUGE_L"][1] == 1


@pytest.mark.parametrize(
  "candidates, references, said",
  [
    (["a"], [[]], "references of picture 0 are empty"),
    (["a"], ["b"], "references of picture 0 are one text"),
    (["a", "b"], [["c"], ["d", " \n"]], "references of picture 1 is empty"),
    (["a"], [["b\x00c"]], r"picture 0 contains the control character '\\x00'"),
    (["a"], [[3]], "references of picture 0 is a int"),
    (["a"], [["b"], ["c"]], "1 candidates and references of 2 pictures"),
    ([], [], "0 candidates"),
    ("a", [["b"]], "candidates is one text"),
  ],
)
def test_bad_captions_are_named(candidates, references, said):
  with pytest.raises(ValueError, match=said):
    score_captions(candidates, references)


def test_a_model_may_write_anything():
  odd = "a\x00dog\ud800 \x1bruns\u200d" + chr(0xE000)
  found = score_captions([odd, "a cat"], [["a dog runs"], ["a cat"]])
  assert 0 < found.per_image["ROUGE_L"][0] <= 1


def test_evaluation_knows_the_same_scores():
  assert from_eval.score_captions is score_captions


def test_java_scores_say_what_is_missing(monkeypatch):
  one = (["a dog"], [["a cat"]])
  with pytest.raises(ValueError, match=r"\['BLEU'\], expected some of"):
    captions_java.java_scores(*one, names=["BLEU"])
  monkeypatch.setattr(captions_java.shutil, "which", lambda name: None)
  with pytest.raises(ValueError, match="METEOR and SPICE run in Java.*CIDEr"):
    captions_java.java_scores(*one)
  monkeypatch.setattr(captions_java.shutil, "which", lambda name: "/bin/java")
  monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
  with pytest.raises(ValueError, match=r"pip install 'jaxvlm\[captions\]'"):
    captions_java.java_scores(*one)


def test_java_scores_are_given_words(monkeypatch):
  """The package gets texts by picture, cut; SPICE answers with its parts."""
  seen = []

  class Scorer:
    def compute_score(self, references, candidates):
      seen.append((references, candidates))
      return 0.5, [{"All": {"f": 0.25}}, {"All": {"f": 0.75}}]

  monkeypatch.setattr(captions_java.shutil, "which", lambda name: "/bin/java")
  stand_in = types.SimpleNamespace(Spice=Scorer)
  monkeypatch.setattr(
    captions_java.importlib, "import_module", lambda name: stand_in
  )
  found = captions_java.java_scores(
    ["A dog.", "two cats"], [["a dog's"], ["Cats!", "cat"]], names=["SPICE"]
  )
  assert seen == [
    ({0: ["a dog 's"], 1: ["cats", "cat"]}, {0: ["a dog"], 1: ["two cats"]})
  ]
  assert found == {"SPICE": 0.5}
  assert found.per_image["SPICE"].tolist() == [0.25, 0.75]


@needs_pack
@pytest.mark.slow
def test_meteor_as_published(fixture):
  pytest.importorskip("pycocoevalcap", reason="pycocoevalcap is not installed")
  items = fixture["items"]
  found = captions_java.java_scores(
    [item["candidate_raw"] for item in items],
    [item["references_raw"] for item in items],
    names=["METEOR"],
  )
  wanted = fixture["published"]["METEOR"]
  assert found["METEOR"] == pytest.approx(wanted, abs=1e-3)
