"""Rows of hiyouga/geometry3k, on which EasyR1 and verl train.

  {"images": [{"bytes": …}], "problem": "<image>Find x.", "answer": "3"}

The instruction that asks for a box is appended, as those recipes do.
"""

from jaxvlm.data.own.example import (
  Example,
  Layout,
  Record,
  from_turns,
  said,
  text_of,
)
from jaxvlm.data.sources.geometry3k import INSTRUCTION
from jaxvlm.data.turns import Turn


def _parse(record: Record) -> Example:
  problem, places = said(text_of(record, "problem"))
  turn = Turn("user", problem + INSTRUCTION)
  return from_turns(record, [turn], places)


LAYOUT = Layout(
  "geometry3k",
  "problem and answer, and images",
  lambda record: "problem" in record and "answer" in record,
  _parse,
)
