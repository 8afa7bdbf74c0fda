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
  answer_of,
  images_of,
  label_of,
  placed,
  said,
  text_of,
  with_system,
)
from jaxvlm.data.turns import Turn


def _parse(record: Record) -> Example:
  question, places = said(text_of(record, "question"))
  turns = [Turn("user", question)]
  if record.get("response") is not None:
    turns.append(Turn("assistant", text_of(record, "response")))
  rejected = record.get("rejected")
  return Example(
    with_system(record, turns),
    placed(places, images_of(record)),
    None if rejected is None else text_of(record, "rejected"),
    answer_of(record, "answer"),
    label_of(record, "id"),
    label_of(record, "group"),
  )


LAYOUT = Layout(
  "rows",
  "question, and as they are needed response, rejected, answer, images, image,"
  " system, id, group",
  lambda record: "question" in record,
  _parse,
)
