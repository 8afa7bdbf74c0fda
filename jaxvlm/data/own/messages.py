"""Chat messages with pictures beside them, as in LLaMA-Factory and ms-swift.

  {"messages": [{"role": "user", "content": "<image>What is x?"},
                {"role": "assistant", "content": "70"}],
   "images": ["a.png"]}

Contents may be lists of parts, as in OpenAI's chat, with the pictures inside.
ms-swift's `rejected_response` and `solution` are read, too.
"""

from jaxvlm.data.own.example import (
  Example,
  Layout,
  Record,
  conversation,
  from_turns,
  text_of,
)


def _parse(record: Record) -> Example:
  turns, named = conversation(record.get("messages"))
  rejected = record.get("rejected_response")
  if rejected is not None:
    rejected = text_of(record, "rejected_response")
  return from_turns(record, turns, named, rejected)


LAYOUT = Layout(
  "messages",
  "messages of role and content, and as they are needed images, system,"
  " rejected_response, answer, id",
  lambda record: "messages" in record,
  _parse,
)
