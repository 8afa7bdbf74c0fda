"""Sampled answers of an evaluation: read, and kept as they are drawn.

A file of answers is JSONL: what they were drawn with, then one line for every
problem and round. An evaluation that was cut off reads it and draws the rest;
scores can be taken again from it without a model.
"""

import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxvlm import distributed, wholefile
from jaxvlm.sampling import Samples

SUFFIX = ".responses.jsonl"


class Drawn(NamedTuple):
  """One sample: its text, and means over its tokens.

  Attributes:
    text: of the completion.
    length: tokens.
    finished: whether the end of the turn was reached.
    entropy: mean full-vocabulary entropy, nats.
    neg_logprob: mean −log p of the sampled tokens, nats.
  """

  text: str
  length: int
  finished: bool
  entropy: np.float32
  neg_logprob: np.float32


# (round, problem) -> its samples
Found = Mapping[tuple[int, int], Sequence[Drawn]]


def read(
  samples: Samples, row: int, decode: Callable[[Sequence[int]], str]
) -> list[Drawn]:
  """Returns the completions of one prompt of a batch."""
  out = []
  for g in range(samples.tokens.shape[1]):
    length = int(samples.mask[row, g].sum())
    weight = max(length, 1)
    out.append(
      Drawn(
        decode(samples.tokens[row, g, :length].tolist()),
        length,
        bool(samples.finished[row, g]),
        np.float32(samples.entropies[row, g].sum() / weight),
        np.float32(-samples.logprobs[row, g].sum() / weight),
      )
    )
  return out


class Log:
  """The file of answers of one evaluation.

  Args:
    file: JSONL; made with its folder by the first process.
    identity: what decides the answers, as JSON: of another one, or of none,
      the file begins anew.
    ids: names of the problems, for who reads the file.
  """

  def __init__(
    self,
    file: pathlib.Path,
    identity: Mapping[str, object],
    ids: Sequence[str],
  ):
    self._file = file
    self._head = json.dumps({"drawn_with": identity}, sort_keys=True)
    self._ids = ids
    kept = self._kept() if distributed.is_writer() else []
    if distributed.is_writer():
      file.parent.mkdir(parents=True, exist_ok=True)
      # Without what a kill tore: lines are appended.
      lines = [self._head, *(json.dumps(record) for record in kept)]
      wholefile.write_text(file, "\n".join(lines) + "\n")
    self.found: Found = {
      (record["round"], record["problem"]): [
        _sample(one) for one in record["samples"]
      ]
      for record in distributed.from_writer(kept)
    }

  def _kept(self) -> list[dict]:
    """Returns the whole records of an evaluation like this one."""
    try:
      text = self._file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
      return []
    head, *lines = text.split("\n")
    if head != self._head:
      return []
    records = []
    for line in lines:
      try:
        record = json.loads(line)
        for one in record["samples"]:
          _sample(one)
        known = self._ids[record["problem"]] == record["id"]
        records += [record] if known and "round" in record else []
      except (ValueError, KeyError, TypeError, IndexError):
        break  # the line that a kill tore
    return records

  def add(self, found: Found) -> None:
    """Appends answers to the file, all of one batch at once."""
    if not distributed.is_writer():
      return
    lines = [
      json.dumps(
        {
          "id": self._ids[problem],
          "round": number,
          "problem": problem,
          "samples": [_plain(one) for one in samples],
        }
      )
      for (number, problem), samples in found.items()
    ]
    with self._file.open("a", encoding="utf-8") as file:
      file.write("".join(line + "\n" for line in lines))
      file.flush()
      os.fsync(file.fileno())


def _plain(one: Drawn) -> dict[str, object]:
  return {
    "text": one.text,
    "length": one.length,
    "finished": one.finished,
    # A float32 comes back from the digits of its float64 as it was.
    "entropy": float(one.entropy),
    "neg_logprob": float(one.neg_logprob),
  }


def _sample(record: Mapping[str, object]) -> Drawn:
  return Drawn(
    str(record["text"]),
    int(record["length"]),
    bool(record["finished"]),
    np.float32(record["entropy"]),
    np.float32(record["neg_logprob"]),
  )
