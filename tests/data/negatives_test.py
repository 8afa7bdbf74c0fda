"""Negatives: wrong by one word, with the grammar of a right text."""

import random

import pytest

from jaxvlm.data import negatives, scenes
from jaxvlm.data.negatives import COMMON, Kind, Negative
from jaxvlm.data.scenes.lexicon import LEXICON


def _edits(caption, kind, lexicon=COMMON):
  found = negatives.minimal_edits(caption, lexicon)
  return {edit.text for edit in found if edit.kind == kind}


@pytest.mark.parametrize(
  "caption, kind, some",
  [
    ("A dog sits.", Kind.OBJECT, {"A cat sits.", "A horse sits."}),
    ("a zebra runs", Kind.OBJECT, {"an elephant runs", "a giraffe runs"}),
    ("two men eat", Kind.OBJECT, {"two women eat"}),
    ("a red bus", Kind.COLOR, {"a blue bus", "a green bus"}),
    ("Two small dogs", Kind.COUNT, {"Three small dogs", "A small dog"}),
    ("there is a cow", Kind.COUNT, {"there are two cows"}),
    ("there are two cows", Kind.COUNT, {"there is a cow"}),
    ("a cup in front of a box", Kind.RELATION, {"a cup behind a box"}),
    ("left of it, right of me", Kind.RELATION, {"right of it, left of me"}),
    ("an old man", Kind.ATTRIBUTE, {"a young man"}),
    ("a young man", Kind.ATTRIBUTE, {"an old man"}),
  ],
)
def test_one_word_changes_and_grammar_follows(caption, kind, some):
  assert some <= _edits(caption, kind)


def test_words_inside_words_stay():
  assert negatives.minimal_edits("the bored manatee blackened", COMMON) == []
  assert negatives.minimal_edits("nothing to swap", COMMON) == []


def test_a_count_without_a_known_noun_stays():
  assert not _edits("a very fine piece of cloth", Kind.COUNT)


@pytest.mark.parametrize(
  "text, some",
  [
    ("x = 70", {"x = 71"}),
    ("35 + 4", {"53 + 4", "34 + 4", "36 + 4", "35 + 3", "35 + 5"}),
    ("1.5 m", {"1.4 m", "1.6 m"}),
  ],
)
def test_numbers_slip(text, some):
  found = negatives.number_edits(text)
  assert some <= {edit.text for edit in found}
  assert text not in {edit.text for edit in found}
  assert {edit.kind for edit in found} == {Kind.NUMBER}
  assert negatives.number_edits("no number") == []


def test_easy_negatives():
  rng = random.Random(0)
  text = "a red circle on white"
  for _ in range(20):
    mixed = negatives.shuffled(text, rng)
    assert mixed.text != text
    assert sorted(mixed.text.split()) == sorted(text.split())
    cut = negatives.truncated(text, rng)
    assert cut.kind == Kind.TRUNCATED
    assert text.startswith(f"{cut.text} ")
  assert negatives.shuffled("no no no", rng) is None
  assert negatives.truncated("word", rng) is None


def test_same_text():
  assert negatives.same("A dog  runs.", "a dog runs")
  assert not negatives.same("a dog runs", "a dog ran")


def test_edits_of_scenes_are_captions_that_are_wrong():
  """Every edit reads as a whole caption; it differs in exactly one fact."""
  kinds = set()
  for index in range(120):
    scene = scenes.sample(scenes.TRAIN, index)
    for caption in scene.references[:2]:
      edits = negatives.minimal_edits(caption, LEXICON)
      assert len(edits) == len(set(edits))
      for text, kind in edits:
        kinds.add(kind)
        said = scenes.read(text)
        assert None not in [said.background, *sum(said.things, ())], text
        found = scenes.agreement(said, scene.meaning)
        assert found.exact == 0, (text, scene.meaning)
        if kind == Kind.RELATION:
          assert (found.objects, found.attributes) == (1, 1), text
        elif kind == Kind.OBJECT:
          assert found.objects < 1
        else:
          assert (found.objects, found.relations) == (1, 1), text
  assert kinds == set(negatives.GENTLE)


def test_negatives_know_their_kind():
  assert Negative("x", Kind.COLOR).kind == "color"
