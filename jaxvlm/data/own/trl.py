"""TRL's layouts: prompt and completion; prompt, chosen and rejected.

  {"prompt": "What is x?", "completion": "70"}
  {"prompt": [{"role": "user", "content": "What is x?"}],
   "chosen": [{"role": "assistant", "content": "70"}],
   "rejected": [{"role": "assistant", "content": "60"}]}

Every field is a text or a list of messages. Where `prompt` is absent, it is
what `chosen` and `rejected` have in common, as in TRL's `extract_prompt`.
"""

from typing import Any

from jaxvlm.data.own.example import (
  Example,
  Layout,
  Record,
  conversation,
  from_turns,
  short,
)
from jaxvlm.data.turns import Turn


def _side(
  record: Record, name: str, role: str
) -> tuple[tuple[Turn, ...], list[Any]]:
  """Returns (turns, pictures) of a field; `role` says what is only a text."""
  value = record.get(name)
  if isinstance(value, str):
    value = [{"role": role, "content": value}]
  if not isinstance(value, list | tuple):
    raise ValueError(
      f"{name} is {short(value)}, expected a text or a list of messages"
    )
  return conversation(value)


def _completion(record: Record) -> Example:
  turns, named = _side(record, "prompt", "user")
  more, others = _side(record, "completion", "assistant")
  return from_turns(record, (*turns, *more), named + others)


def _preference(record: Record) -> Example:
  chosen, named = _side(record, "chosen", "assistant")
  rejected, _ = _side(record, "rejected", "assistant")
  if record.get("prompt") is not None:
    turns, before = _side(record, "prompt", "user")
    named = before + named
  else:
    common = 0
    while chosen[common : common + 1] == rejected[common : common + 1] != ():
      common += 1
    turns, chosen, rejected = (
      chosen[:common],
      chosen[common:],
      rejected[common:],
    )
  for name, answer in (("chosen", chosen), ("rejected", rejected)):
    if [turn.role for turn in answer] != ["assistant"]:
      raise ValueError(
        f"{name} is {short([turn.role for turn in answer])} behind the prompt,"
        " expected one turn of the assistant"
      )
  return from_turns(record, (*turns, *chosen), named, rejected[0].text)


def _prompt(record: Record) -> Example:
  turns, named = _side(record, "prompt", "user")
  return from_turns(record, turns, named)


PREFERENCE = Layout(
  "preference",
  "prompt, chosen and rejected, texts or messages, and as they are needed"
  " images, answer, id",
  lambda record: "chosen" in record and "rejected" in record,
  _preference,
)
COMPLETION = Layout(
  "prompt_completion",
  "prompt and completion, texts or messages, and as they are needed images,"
  " answer, id",
  lambda record: "prompt" in record and "completion" in record,
  _completion,
)
PROMPT = Layout(
  "prompt",
  "prompt, a text or messages, and as they are needed images, answer,"
  " solution, id",
  lambda record: "prompt" in record,
  _prompt,
)
