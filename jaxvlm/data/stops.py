"""Stop strings: an exact automaton over the bytes of tokens.

A stop string may begin and end anywhere inside a token, and a token may hold
part of a character. So strings are followed byte by byte: a state is the
longest end of the text that begins a stop string, and a token moves a state
by all of its bytes at once. The sampler needs one look-up per token, no text.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxvlm.data.spelling import Spelling, spell


class StopTable(NamedTuple):
  """What every token does to every state; a completion starts in state 0.

  Attributes:
    transitions: u8 or u16[states, V] the state after a token; the smallest
      type that holds the number of states.
    accept: the state that is reached with the token that completes a stop
      string, or with an end-of-turn token, and never left.
  """

  transitions: np.ndarray
  accept: int


def stop_table(
  tokenizer: Any, strings: Sequence[str], eos_ids: Sequence[int] = ()
) -> StopTable:
  """Returns the automaton that accepts with the token that completes a stop.

  δ(p, t) = accept if p·t contains a stop string, else the longest end of p·t
  that begins one (Aho and Corasick 1975, with δ closed over whole tokens).
  The text is the one that decoding shows: special tokens are invisible, and a
  stop string may stretch across one.

  Args:
    tokenizer: a byte-level BPE tokenizer of transformers, V = len(tokenizer).
    strings: the stop strings; none leaves the end-of-turn tokens alone.
    eos_ids: tokens that end a completion from every state.

  Raises:
    ValueError: a stop string that is empty or that the tokenizer would write
      in another way, an end-of-turn id outside the vocabulary, a tokenizer
      that is not byte-level.
  """
  if isinstance(strings, str):
    raise ValueError(
      f"stop strings: got the text {strings!r}, expected a sequence of"
      " strings; put it in brackets"
    )
  spelling = spell(tokenizer)
  v = len(spelling.lengths)
  stops = sorted({_bytes_of(tokenizer, spelling, s) for s in strings})
  delta = _automaton(stops)
  states, accept = len(delta), len(delta) - 1
  small = np.uint8 if states <= 256 else np.uint16
  delta = delta.astype(small)
  # Tokens from long to short, so that those with an i-th byte come first.
  order = np.argsort(-spelling.lengths, kind="stable")
  starts, lengths = spelling.starts[order], spelling.lengths[order]
  moved = np.repeat(np.arange(states, dtype=small)[:, None], v, axis=1)
  for i in range(int(lengths.max(initial=0))):
    n = int(np.searchsorted(-lengths, -i))  # tokens with more than i bytes
    moved[:, :n] = delta[moved[:, :n], spelling.data[starts[:n] + i]]
  transitions = np.empty_like(moved)
  transitions[:, order] = moved
  for token in eos_ids:
    if not 0 <= token < v:
      raise ValueError(
        f"end-of-turn id is {token}, expected a token of the tokenizer, 0 …"
        f" {v - 1}"
      )
    transitions[:, token] = accept
  return StopTable(transitions, accept)


def _bytes_of(tokenizer: Any, spelling: Spelling, stop: str) -> bytes:
  """Returns the bytes of a stop string that the tokenizer can write."""
  if not stop:
    raise ValueError(
      "stop string '' is empty, expected at least one character: it would end"
      " every completion before its first token"
    )
  try:
    wanted = stop.encode()
  except UnicodeEncodeError as e:
    raise ValueError(
      f"stop string {stop!r} is no valid Unicode ({e.reason}): remove the lone"
      " surrogate"
    ) from e
  written = spelling.of(tokenizer.encode(stop, add_special_tokens=False))
  if written != wanted:
    raise ValueError(
      f"stop string {stop!a} cannot be produced: the tokenizer writes it as"
      f" {written.decode(errors='replace')!a}; write it that way; a special"
      " token, which text never shows, is given as end-of-turn id instead"
    )
  return wanted


def _automaton(stops: Sequence[bytes]) -> np.ndarray:
  """Returns i64[states, 256]; state 0 is the empty beginning, the last one
  accepts."""
  begun = {stop[:n] for stop in stops for n in range(len(stop))} | {b""}
  # A beginning that holds another stop string is never reached.
  begun = {b for b in begun if not any(stop in b for stop in stops)}
  number = {beginning: i for i, beginning in enumerate(sorted(begun))}
  accept = len(number)
  delta = np.zeros((accept + 1, 256), np.int64)
  delta[accept] = accept
  for beginning, state in number.items():
    for byte in set(b"".join(stops)):  # any other byte leads back to 0
      text = beginning + bytes([byte])
      if text.endswith(tuple(stops)):
        delta[state, byte] = accept
        continue
      ends = (text[i:] for i in range(len(text) + 1))
      delta[state, byte] = next(number[end] for end in ends if end in number)
  return delta
