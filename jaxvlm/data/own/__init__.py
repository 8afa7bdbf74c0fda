"""A user's own rows, in the file layouts that people have.

  table = own.read("rows.jsonl", own.answered)

reads a file, a folder of files or a data set of the Hub, finds its layout by
its fields, and returns rows for one purpose: `answered` for SFT, `pairs` for
preference losses and SFT-C, `prompts` for distillation and for rewards that
need no answer, `problems` for the other rewards and for evaluation. What cannot
be read is dropped, counted and named (`drops`).
"""

from jaxvlm.data.own.example import Example
from jaxvlm.data.own.forms import (
  NO_REFERENCE,
  answered,
  pairs,
  problems,
  prompts,
)
from jaxvlm.data.own.layouts import LAYOUTS
from jaxvlm.data.own.read import Table, read

__all__ = [
  "LAYOUTS",
  "NO_REFERENCE",
  "Example",
  "Table",
  "answered",
  "pairs",
  "problems",
  "prompts",
  "read",
]
