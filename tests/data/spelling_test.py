"""Text from tokens that arrive one at a time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvlm import assets
from jaxvlm.data import chat, layout
from jaxvlm.data.spelling import Reader, spell
from tests.data import pack


@pytest.fixture(scope="session")
def nano() -> chat.Chat:
  return chat.load(assets.folder("nano-base"), layout.VisionLayout())


@pytest.fixture(scope="session")
def official(tmp_path_factory) -> chat.Chat:
  folder = tmp_path_factory.mktemp("official")
  return chat.load(pack.official_tokenizer(folder), layout.VisionLayout())


@pytest.fixture(params=["nano", "official"])
def either(request) -> chat.Chat:
  return request.getfixturevalue(request.param)


def test_every_token_alone_is_what_decoding_shows(either):
  ids = [[i] for i in range(either.vocab_size)]
  shown = either.tokenizer.batch_decode(ids, skip_special_tokens=True)
  spelling = spell(either.tokenizer)
  found = [spelling.of(i).decode(errors="replace") for i in ids]
  assert found == shown
  assert shown[either.eos_id] == shown[either.image_token_id] == ""


@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_pieces_join_to_the_whole(nano, data):
  """Broken characters and special tokens included."""
  token = st.integers(0, nano.vocab_size - 1)
  ids = data.draw(st.lists(token, max_size=20))
  reader = Reader(spell(nano.tokenizer))
  text = "".join([*map(reader.read, ids), reader.end()])
  assert text == nano.tokenizer.decode(ids, skip_special_tokens=True)


def test_a_character_appears_when_it_is_whole(nano):
  ids = nano.tokenizer.encode("a🚀½", add_special_tokens=False)
  assert len(ids) == 7  # a, four bytes, two bytes: none of them is a word
  reader = Reader(spell(nano.tokenizer))
  assert [reader.read(i) for i in ids] == ["a", "", "", "", "🚀", "", "½"]
  assert reader.end() == ""
  assert [reader.read(i) for i in ids[:3]] == ["a", "", ""]
  assert reader.end() == "\ufffd"
