"""A toy task: a caption is scored by five others, and against its batch."""

import collections
import json
import math

from jaxvlm.data.rows import Row
from jaxvlm.tasks import Task

_SUBJECTS = ("dog runs", "red bus stops", "man sleeps")


def _row(index: int, subject: str) -> Row:
  captions = tuple(f"a {subject}{end}" for end in ("", " here", ".", "!", " ;"))
  return Row(
    f"picture {index}",
    "What is there?",
    captions,
    reference_text=json.dumps(captions),
  )


ROWS = tuple(_row(i, subject) for i, subject in enumerate(_SUBJECTS))


def _words(row: Row) -> set[str]:
  return {word for caption in row.reference for word in caption.split()}


def reward(responses, rows):
  """Words in common with the references; those of few rows count more."""
  found = collections.Counter(w for row in rows for w in _words(row))
  overlap = [
    sum(
      math.log(len(rows) / found[word])
      for word in response.split()
      if word in _words(row)
    )
    for response, row in zip(responses, rows, strict=True)
  ]
  lengths = [len(response.split()) for response in responses]
  return {"reward": overlap, "overlap": overlap, "length": lengths}


CAPTIONS = Task("captions", lambda split: ROWS, reward, ("overlap",))
