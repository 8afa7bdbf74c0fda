"""Our own layout: one question a record, in plain fields.

  {"question": "What is x?", "images": ["a.png"], "answer": "70"}

`question` is required; what else a record needs depends on its use:
`response` (SFT), `response` and `rejected` (preferences), `answer` (RL and
evaluation). `images` is a list of paths and `image` one; `system`, `id` and
`group` are optional. Conversations of several turns are the `messages` layout.
"""

from jaxvlm.data.own.example import (
  Example,
  Layout,
  Record,
  from_turns,
  said,
  text_of,
)
from jaxvlm.data.turns import Turn


def _parse(record: Record) -> Example:
  question, places = said(text_of(record, "question"))
  turns = [Turn("user", question)]
  if record.get("response") is not None:
    turns.append(Turn("assistant", text_of(record, "response")))
  rejected = record.get("rejected")
  if rejected is not None:
    rejected = text_of(record, "rejected")
  return from_turns(record, turns, places, rejected)


LAYOUT = Layout(
  "rows",
  "question, and as they are needed response, rejected, answer, images, image,"
  " system, id, group",
  lambda record: "question" in record,
  _parse,
)
