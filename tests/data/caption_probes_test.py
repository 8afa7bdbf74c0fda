"""Probe captions are right and wrong as their class says."""

import pytest

from jaxvlm.data import negatives, scenes
from jaxvlm.data.negatives import Kind
from jaxvlm.data.rows import Row
from jaxvlm.data.sources import caption_probes
from jaxvlm.data.sources.scenes import SceneRows
from jaxvlm.diagnostics.probes import TEXTS


def test_texts_of_a_scene():
  rows = SceneRows(scenes.TRAIN, range(30), caption_probes.ProbeCaptions())
  for row in rows:
    exact = [
      scenes.agreement(scenes.read(text), row.reference.meaning).exact
      for text in row.responses
    ]
    assert exact == [1, 1, 0, 0, 0, 0], row.responses
    assert len(set(row.responses)) == len(TEXTS)
    assert row.kinds[:2] == ("", "")


def row(id, *captions):
  return Row(id, "?", captions, reference_text=str(captions))


ROWS = (
  row("dog", "a dog on the grass", "the brown dog runs"),
  row("none", "", ""),
  row("cake", "two cakes on a table", "cakes for a party"),
)


def test_texts_of_captions_are_made_of_the_references():
  rows = [r if any(r.reference) else Row(r.id, "?", (), reference_text="")
          for r in ROWS]  # fmt: skip
  found = caption_probes.of_captions(rows)
  assert [r.id for r in found] == ["dog", "cake"]
  for own, other in (found, found[::-1]):
    chosen, paraphrase, gentle, easy, elsewhere, mixed = own.responses
    assert {chosen, paraphrase} == set(own.reference)
    assert elsewhere in other.reference
    assert chosen.startswith(easy)
    assert sorted(mixed.split()) == sorted(chosen.split())
    edits = negatives.minimal_edits(chosen, negatives.COMMON)
    if edits:
      assert gentle in [edit.text for edit in edits]
    else:
      assert own.kinds[2] == str(Kind.OTHER_PICTURE)
  assert found == caption_probes.of_captions(rows)


@pytest.mark.parametrize(
  "rows", [ROWS[:1], (ROWS[0], row("one", "a dog on grass"))]
)
def test_too_little_to_make_probes_of_is_refused_by_name(rows):
  with pytest.raises(ValueError, match=r"row '(dog|one)' has"):
    caption_probes.of_captions(rows)
