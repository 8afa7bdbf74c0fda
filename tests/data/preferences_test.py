"""Pairs from rows: several negatives, negatives by rule, bad input."""

import pytest

from jaxvlm.data import negatives, preferences
from jaxvlm.data.negatives import Kind
from jaxvlm.data.rows import Row


def row(id, *responses, kinds=()):
  return Row(id, "q", "ref", responses=responses, kinds=kinds)


ROWS = [
  row("a", "two red dogs left of a bus"),
  row("b", "x = 35 + 41 = 76"),
  row("c", "unheard words only"),
]


def test_every_rejected_response_makes_a_pair():
  rows = [
    row("a", "good", "bad", "worse", kinds=("", "color", "count")),
    row("b", "good", "bad"),
  ]
  found = preferences.one_negative_each(rows)
  assert [(r.id, r.responses, r.kinds) for r in found] == [
    ("a~0", ("good", "bad"), ("", "color")),
    ("a~1", ("good", "worse"), ("", "count")),
    ("b", ("good", "bad"), ("", "file")),
  ]
  with pytest.raises(ValueError, match=r"'c' has 1 response\(s\)"):
    preferences.one_negative_each([row("c", "good")])


@pytest.mark.parametrize("kind", [*negatives.GENTLE, Kind.NUMBER])
def test_a_kind_is_made_where_the_text_allows_it(kind):
  found = preferences.contrasted(ROWS, [kind])
  allowed = {
    "two red dogs left of a bus": kind in negatives.GENTLE,
    "x = 35 + 41 = 76": kind == Kind.NUMBER,
  }
  # There is no lexicon entry for an attribute in it.
  allowed["two red dogs left of a bus"] &= kind != Kind.ATTRIBUTE
  for one in found:
    chosen, rejected = one.responses
    wanted = kind if allowed.get(chosen) else Kind.OTHER_PICTURE
    assert one.kinds == ("", wanted)
    assert rejected != chosen
    if wanted == Kind.OTHER_PICTURE:
      assert rejected in {r.responses[0] for r in ROWS}


def test_draws_depend_on_the_seed_alone():
  kinds = [*negatives.GENTLE, *negatives.EASY]
  one = preferences.contrasted(ROWS * 8, kinds, seed=1)
  assert one == preferences.contrasted(ROWS * 8, kinds, seed=1)
  assert one != preferences.contrasted(ROWS * 8, kinds, seed=2)
  assert {r.kinds[1] for r in one} >= {"shuffled", "truncated"}


def test_what_is_right_is_no_negative():
  rows = [row("a", "A dog."), row("b", "a  dog"), row("c", "a bus")]
  for one in preferences.contrasted(rows, [Kind.OTHER_PICTURE]):
    assert not negatives.same(*one.responses)


@pytest.mark.parametrize(
  "rows, kinds, said",
  [
    (ROWS, [], "kinds are"),
    (ROWS, [Kind.POLICY], r"\('policy',\), expected some of attribute, color"),
    (ROWS[:1], [Kind.COLOR], r"1 row\(s\), expected at least 2"),
    ([row("a", "b"), row("c")], [Kind.COLOR], "'c' has no response"),
    ([row("a", "x"), row("b", "x")], [Kind.COLOR], "are right here, too"),
  ],
)
def test_bad_rows_are_named(rows, kinds, said):
  with pytest.raises(ValueError, match=said):
    preferences.contrasted(rows, kinds)
