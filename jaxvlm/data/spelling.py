"""The bytes of tokens, and text from tokens that arrive one at a time.

A token of byte-level BPE is a run of bytes and may hold part of a character.
What decoding would show is decided here once: added tokens are plain text,
special tokens are invisible.
"""

import codecs
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np


class Spelling(NamedTuple):
  """The bytes of all tokens, one behind the other.

  Attributes:
    data: u8[total].
    starts: i64[V] where a token's bytes begin.
    lengths: i64[V] how many there are; 0 for special tokens.
  """

  data: np.ndarray
  starts: np.ndarray
  lengths: np.ndarray

  def of(self, ids: Iterable[int]) -> bytes:
    """Returns the bytes of a sequence of tokens."""
    parts = ((self.starts[i], self.lengths[i]) for i in ids)
    return b"".join(self.data[a : a + n].tobytes() for a, n in parts)


class Reader:
  """Text of tokens as they come; a character appears when it is whole.

  What all calls return, one behind the other, is what decoding all tokens at
  once would show.
  """

  def __init__(self, spelling: Spelling):
    self._spelling = spelling
    self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

  def read(self, token: int) -> str:
    """Returns the text that a token completes, which may be none."""
    return self._decoder.decode(self._spelling.of([token]))

  def end(self) -> str:
    """Returns the sign of broken bytes if the last character is not whole."""
    return self._decoder.decode(b"", final=True)


def spell(tokenizer: Any) -> Spelling:
  """Returns the bytes of every token of a transformers tokenizer.

  Raises:
    ValueError: the tokenizer is not byte-level.
  """
  alphabet = _byte_alphabet()
  tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
  for id, added in tokenizer.added_tokens_decoder.items():
    text = b"" if added.special else added.content.encode()
    tokens[id] = "".join(alphabet[byte] for byte in text)
  tokens = [token or "" for token in tokens]  # None: an id that is not used
  written = np.frombuffer("".join(tokens).encode("utf-32-le"), np.uint32)
  codes = np.array([ord(c) for c in alphabet])
  byte_of = np.full(codes.max() + 2, -1)
  byte_of[codes] = np.arange(256)
  data = byte_of[np.minimum(written, codes.max() + 1)]
  lengths = np.array([len(token) for token in tokens])
  starts = np.cumsum(lengths) - lengths
  if (data < 0).any():
    at = np.searchsorted(starts, np.argmax(data < 0), side="right") - 1
    raise ValueError(
      f"token {at} is {tokens[at]!r}, expected characters of byte-level BPE:"
      " a tokenizer of the GPT-2 kind, as Qwen's, is needed"
    )
  return Spelling(data.astype(np.uint8), starts, lengths)


def _byte_alphabet() -> str:
  """Returns the character by which byte-level BPE writes each byte.

  Printable bytes stand for themselves, the others for the characters from 256
  on, in order (Radford et al. 2019, GPT-2).
  """
  shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
  hidden = (byte for byte in range(256) if byte not in shown)
  other = {byte: 256 + i for i, byte in enumerate(hidden)}
  return "".join(chr(other.get(byte, byte)) for byte in range(256))
