"""One row as the model reads it, for people."""

import itertools
import re
from collections.abc import Iterable, Sequence

from jaxvlm.data import completions
from jaxvlm.data.chat import Chat
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Row, grids_of

# Around what is learned.
LEARNED = "⟦", "⟧"


def rendered(row: Row, chat: Chat, budget: PixelBudget) -> str:
  """Returns a row's prompt and responses with their control tokens visible.

  A run of one control token is written once, as `<|image_pad|> × 64`; a control
  token that a text merely spells is followed by `(text)`; ⟦ ⟧ stand around what
  is learned.

  Args:
    row: a row that can be used.
    chat: tokenizer and template.
    budget: size of pictures.

  Raises:
    ValueError, FileNotFoundError: why the row cannot be used.
  """
  prompt = chat.prompt(row.question, grids_of(row, chat, budget), row.before)
  out = _shown(prompt, chat)
  for number, response in enumerate(row.responses, 1):
    named = f"\n--- response {number} ---\n" if len(row.responses) > 1 else ""
    found = completions.stream(chat, response)
    out += named + _marked(found.ids, found.learned, chat)
  return out


def _marked(ids: Sequence[int], learned: Sequence[bool], chat: Chat) -> str:
  out = ""
  pairs = zip(ids, learned, strict=True)
  for own, group in itertools.groupby(pairs, key=lambda pair: pair[1]):
    text = _shown([id for id, _ in group], chat)
    out += f"{LEARNED[0]}{text}{LEARNED[1]}" if own else text
  return out


def _shown(ids: Iterable[int], chat: Chat) -> str:
  names = {id: name for name, id in chat.tokenizer.get_added_vocab().items()}
  spelled = re.compile("|".join(map(re.escape, names.values())) or "(?!)")
  out = ""
  for control, group in itertools.groupby(ids, key=names.get):
    run = list(group)
    if control is None:
      text = chat.tokenizer.decode(run)
      out += spelled.sub(lambda match: f"{match[0]}(text)", text)
    else:
      out += control if len(run) == 1 else f"{control} × {len(run)}"
  return out
