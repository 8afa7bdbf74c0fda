"""LLaVA's conversations, also known as the ShareGPT layout.

  {"id": "1", "image": "a.png",
   "conversations": [{"from": "human", "value": "<image>\\nWhat is x?"},
                     {"from": "gpt", "value": "70"}]}

LLaMA-Factory puts preferences beside it: `chosen` and `rejected`, messages of
the same form, behind conversations that end with the question.
"""

from jaxvlm.data.own.example import (
  Example,
  Layout,
  Record,
  conversation,
  from_turns,
  message_of,
)

_NAMES = {"role": "from", "content": "value"}


def _parse(record: Record) -> Example:
  turns, named = conversation(record.get("conversations"), **_NAMES)
  rejected = None
  if record.get("chosen") is not None or record.get("rejected") is not None:
    chosen, _ = message_of(record.get("chosen"), **_NAMES)
    worse, _ = message_of(record.get("rejected"), **_NAMES)
    turns, rejected = (*turns, chosen), worse.text
  return from_turns(record, turns, named, rejected)


LAYOUT = Layout(
  "conversations",
  "conversations of from and value, and as they are needed image, images,"
  " system, chosen, rejected, answer, id",
  lambda record: "conversations" in record,
  _parse,
)
