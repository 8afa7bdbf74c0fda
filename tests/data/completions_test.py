"""Packed streams: whole rows behind a response, kept apart."""

import numpy as np
import pytest

from jaxvlm import assets
from jaxvlm.data import chat as chats
from jaxvlm.data import completions
from jaxvlm.data.completions import Guest, Packed
from jaxvlm.data.turns import Turn


@pytest.fixture(scope="module")
def chat():
  return chats.load(assets.folder("nano-base"), None)


def test_a_stream_holds_a_response_and_whole_rows(chat):
  said = (Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d"))
  before = (Turn("system", "Be brief."),)
  packed = Packed("first", (Guest("a?", said, before), Guest("e?", "f")))
  found = completions.stream(chat, packed)
  ids, learned = chat.reply("first")
  wanted = [(token, own, 0) for token, own in zip(ids, learned, strict=True)]
  for number, guest in enumerate(packed.guests, 1):
    prompt = chat.prompt(guest.question, (), guest.before)
    wanted += [(token, False, number) for token in prompt]
    pairs = zip(*chat.reply(guest.response), strict=True)
    wanted += [(token, own, number) for token, own in pairs]
  assert list(zip(*found, strict=True)) == wanted
  made = completions.collate([(packed,), ("alone",)], chat, 100)
  assert made.segments.shape == (2, 100) and made.tokens.shape == (2, 1, 100)
  length = len(wanted)
  np.testing.assert_array_equal(made.segments[0, :length], found.segments)
  # Padding begins no segment: no position jumps there.
  assert set(made.segments[0, length:]) == {2} and not made.segments[1].any()
  assert not made.mask[0, 0, length:].any()


def test_streams_without_guests_have_no_segments(chat):
  assert completions.collate([("a", "b")], chat, 9).segments is None
  with pytest.raises(ValueError, match="2 responses, expected one"):
    completions.collate([(Packed("a"), Packed("b"))], chat, 9)
