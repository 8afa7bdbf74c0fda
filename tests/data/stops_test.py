"""Stop strings: the automaton against a search in the decoded text."""

import pathlib
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvlm import assets
from jaxvlm.data import chat, layout
from jaxvlm.data.stops import stop_table
from tests.data import pack
from tests.data.chat_test import needs_shared

LAYOUT = layout.VisionLayout()


@pytest.fixture(scope="session")
def nano() -> chat.Chat:
  return chat.load(assets.folder("nano-base"), LAYOUT)


@pytest.fixture(scope="session")
def official(tmp_path_factory) -> chat.Chat:
  folder = tmp_path_factory.mktemp("official")
  return chat.load(pack.official_tokenizer(folder), LAYOUT)


@pytest.fixture(params=["nano", "official"])
def either(request) -> chat.Chat:
  return request.getfixturevalue(request.param)


def first_accepted(table, ids):
  """Returns the number of the token with which the automaton accepts."""
  state = 0
  for i, token in enumerate(ids):
    state = table.transitions[state, token]
    if state == table.accept:
      return i
  return None


def first_shown(some: chat.Chat, stops, ids):
  """Returns the same by decoding every beginning and looking for the stops."""
  for i in range(len(ids)):
    text = some.tokenizer.decode(ids[: i + 1], skip_special_tokens=True)
    if any(stop in text for stop in stops):
      return i
  return None


def agrees(some: chat.Chat, stops, ids):
  table = stop_table(some.tokenizer, stops)
  assert table.accept == len(table.transitions) - 1
  expected = first_shown(some, stops, ids)
  assert first_accepted(table, ids) == expected, (stops, ids)
  return expected is not None


# Pieces that overlap, repeat and cut characters, so that texts hold stops.
PIECE = st.sampled_from(
  ["a", "b", "ab", "aab", "\n", " ", "7", "é", "½", "日", "日本", "🚀"]
)
STOPS = st.lists(
  st.lists(PIECE, min_size=1, max_size=4).map("".join), min_size=1, max_size=3
)


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_random_texts_from_few_pieces(nano, data):
  """Texts in the tokenizer's spelling and byte by byte, special tokens mixed
  in."""
  stops = data.draw(STOPS)
  parts = data.draw(st.lists(PIECE, max_size=12))
  special = [nano.eos_id, nano.pad_id, nano.image_token_id]
  ids = []
  for part in parts:
    whole = nano.tokenizer.encode(part, add_special_tokens=False)
    ids += whole if data.draw(st.booleans()) else spelled(nano, part)
    if data.draw(st.integers(0, 9)) == 0:
      ids.append(data.draw(st.sampled_from(special)))
  agrees(nano, stops, ids)


def spelled(some: chat.Chat, text: str) -> list[int]:
  """Returns the text as one token per byte."""
  characters = [gpt2_character(byte) for byte in text.encode()]
  return some.tokenizer.convert_tokens_to_ids(characters)


def gpt2_character(byte: int) -> str:
  """The published table: shifted by 256 in the order of hidden bytes."""
  if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF:
    return chr(byte)
  if byte <= 0x20:
    return chr(256 + byte)
  if byte <= 0xA0:
    return chr(256 + byte - 0x7F + 33)
  return chr(256 + 67)  # the soft hyphen, the last of 68


@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_random_tokens(nano, data):
  """Any tokens, broken characters too; the stop is cut out of their text."""
  v = nano.vocab_size
  ids = data.draw(st.lists(st.integers(0, v - 1), min_size=1, max_size=20))
  text = nano.tokenizer.decode(ids, skip_special_tokens=True)
  a = data.draw(st.integers(0, len(text)))
  stop = text[a : a + data.draw(st.integers(1, 8))]
  try:
    stop_table(nano.tokenizer, [stop])
  except ValueError:
    return  # empty, or only written in pieces that the tokenizer would join
  if "\ufffd" not in stop:  # the sign of broken bytes, not bytes of its own
    assert agrees(nano, [stop], ids)


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=5)
def test_random_tokens_of_the_official_vocabulary(official, seed):
  rng = np.random.default_rng(seed)
  ids = rng.integers(0, official.vocab_size, 40).tolist()
  text = official.tokenizer.decode(ids, skip_special_tokens=True)
  pieces = [text[a : a + 3] for a in rng.integers(0, len(text) - 3, 6)]
  good = [p for p in pieces if "\ufffd" not in p and producible(official, p)]
  if good:
    assert agrees(official, good[:3], ids)
  agrees(official, ["</answer>", "\n\n", "the"], ids)


def producible(some: chat.Chat, text: str) -> bool:
  encode = some.tokenizer.encode
  return some.tokenizer.decode(encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize(
  "stops,text",
  [
    (["\n\n"], "a\n\n\nb"),
    (["</answer>"], "<answer>70</answer> and more"),
    (["abab"], "abaabab"),  # falls back to a shorter beginning
    (["aaab"], "aaaaab"),
    (["b", "abc"], "abc"),  # the shorter one is inside the longer
    (["abx", "bcd"], "abcd"),  # the end of one begins the other
    (["🚀"], "up 🚀 and away"),
    (["本½"], "日本½"),
    ([" "], "a b"),
    (["Observation:", "\nQuestion"], "x\nQuest\nQuestion: Observation:"),
    (["</tool_call>"], "x</tool_call>"),  # an added token that is shown
    (["call>"], "x</tool_call>"),
    (["call>\n"], "x</tool_call>\ny"),
  ],
)
def test_known_texts(either, stops, text):
  ids = either.tokenizer.encode(text, add_special_tokens=False)
  assert agrees(either, stops, ids)
  # A token less, and nothing was found.
  found = first_accepted(stop_table(either.tokenizer, stops), ids)
  assert not agrees(either, stops, ids[:found])


def test_a_stop_may_stretch_across_a_special_token(either):
  a, b = (either.tokenizer.encode(x)[0] for x in ("a", "b"))
  assert agrees(either, ["ab"], [a, either.image_token_id, b])
  assert not agrees(either, ["ab"], [a, either.image_token_id, a])


def test_every_token_moves_by_the_bytes_that_decoding_shows(either):
  """A stop of one byte is in exactly the tokens whose text has it."""
  shown = either.tokenizer.batch_decode(
    [[i] for i in range(either.vocab_size)], skip_special_tokens=True
  )
  for byte in (" ", "7", "\n", "e"):
    table = stop_table(either.tokenizer, [byte])
    expected = [byte in text for text in shown]
    np.testing.assert_array_equal(table.transitions[0] == 1, expected)


def test_the_end_of_a_turn_ends_from_every_state(either):
  for stops in ([], ["</answer>", "日本"]):
    table = stop_table(either.tokenizer, stops, [either.eos_id, either.pad_id])
    assert (table.transitions[:, either.eos_id] == table.accept).all()
    assert (table.transitions[:, either.pad_id] == table.accept).all()
    # Nothing leaves the end, and without a reason nothing enters it.
    assert (table.transitions[table.accept] == table.accept).all()
    assert table.transitions[0, either.image_token_id] == 0
    if not stops:
      assert (table.transitions[0] == table.accept).sum() == 2


def test_order_and_repetition_of_stops_do_not_matter(nano):
  a = stop_table(nano.tokenizer, ["ab", "\n", "ab"])
  b = stop_table(nano.tokenizer, ["\n", "ab"])
  np.testing.assert_array_equal(a.transitions, b.transitions)


def test_states_are_as_small_as_they_can_be(nano):
  short = stop_table(nano.tokenizer, ["70"])
  assert short.transitions.dtype == np.uint8
  assert short.transitions.shape == (3, nano.vocab_size)
  text = "".join(f"{i}," for i in range(100))
  long = stop_table(nano.tokenizer, [text])
  assert long.transitions.dtype == np.uint16 and long.accept == len(text)
  ids = nano.tokenizer.encode(text)
  assert first_accepted(long, ids) == len(ids) - 1


@needs_shared
def test_forty_states_of_the_official_vocabulary_take_little_time(official):
  stops = ["</answer>", "\n\nQuestion:", "日本🚀", "Observation: ab"]
  start = time.process_time()
  table = stop_table(official.tokenizer, stops, [official.eos_id])
  spent = time.process_time() - start
  print(f"{table.transitions.shape}: {spent:.2f} s")
  assert table.transitions.shape == (43, 151_665)
  assert spent < 3


BAD = {
  "": "'' is empty",
  "e\u0301": r"'e\\u0301' cannot be produced.*writes it as '\\xe9'",
  "<|im_end|>": "cannot be produced.*token.*given as end-of-turn id",
  "x<|image_pad|>": "cannot be produced.*'x'",
  "half \ud800": "no valid Unicode",
}


@pytest.mark.parametrize("stop", BAD, ids=ascii)
def test_what_the_tokenizer_cannot_produce_is_refused(either, stop):
  with pytest.raises(ValueError, match=BAD[stop]):
    stop_table(either.tokenizer, ["fine", stop])


def test_one_string_is_not_taken_for_its_characters(nano):
  with pytest.raises(ValueError, match="put it in brackets"):
    stop_table(nano.tokenizer, "stop")


@pytest.mark.parametrize("token", [-1, 10**6])
def test_an_end_outside_the_vocabulary_is_refused(nano, token):
  with pytest.raises(ValueError, match=f"end-of-turn id is {token}"):
    stop_table(nano.tokenizer, ["x"], [token])


class Words:
  """A tokenizer that is not byte-level, or lacks some bytes."""

  def __init__(self, *tokens):
    self._tokens = list(tokens)
    self.added_tokens_decoder = {
      0: types.SimpleNamespace(special=False, content="½")
    }

  def __len__(self):
    return len(self._tokens)

  def convert_ids_to_tokens(self, ids):
    return [self._tokens[i] for i in ids]

  def encode(self, text, add_special_tokens):
    return [self._tokens.index(c) for c in text if c in self._tokens]


def test_a_tokenizer_of_another_kind_is_refused_with_the_token():
  with pytest.raises(ValueError, match="token 2 is '▁b', expected characters"):
    stop_table(Words("½", "a", "▁b"), ["a"])


def test_bytes_that_no_token_has_and_numbers_without_a_token():
  some = Words("½", "a", None, "b")
  assert first_accepted(stop_table(some, ["½b"]), [0, 2, 3]) == 2
  with pytest.raises(ValueError, match="'az' cannot be produced.*'a'"):
    stop_table(some, ["az"])


def test_stops_need_no_jax():
  program = (
    "import sys, jaxvlm.data.stops;"
    "print([m for m in ('jax', 'flax', 'transformers') if m in sys.modules])"
  )
  root = pathlib.Path(__file__).parents[2]
  done = subprocess.run(
    [sys.executable, "-c", program],
    capture_output=True,
    text=True,
    check=True,
    cwd=root,
  )
  assert done.stdout.strip() == "[]"
