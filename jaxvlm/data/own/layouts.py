"""The layouts that are known, and which one a record is of."""

from collections.abc import Mapping
from typing import Any

from jaxvlm.data.own import (
  conversations,
  geometry3k,
  mathvista,
  messages,
  schema,
  trl,
  verl,
)
from jaxvlm.data.own.example import Layout, Refused

# A record is of the first that it matches: those that need more fields first.
LAYOUTS = (
  mathvista.LAYOUT,
  conversations.LAYOUT,
  messages.LAYOUT,
  trl.PREFERENCE,
  verl.LAYOUT,
  trl.COMPLETION,
  trl.PROMPT,
  geometry3k.LAYOUT,
  schema.LAYOUT,
)


def of(record: Mapping[str, Any]) -> Layout:
  """Returns the layout of a record, by its fields.

  Raises:
    Refused: none; says which fields it has and which are known.
  """
  for layout in LAYOUTS:
    if layout.matches(record):
      return layout
  raise Refused(
    f"the fields {', '.join(map(str, record)) or '(none)'} are of no known"
    f" layout, expected one of:\n{_known()}"
  )


def named(name: str) -> Layout:
  """Returns the layout of this name.

  Raises:
    ValueError: there is none.
  """
  for layout in LAYOUTS:
    if layout.name == name:
      return layout
  raise ValueError(
    f"layout {name!r} is not known, expected one of:\n{_known()}"
  )


def _known() -> str:
  return "\n".join(f"  {layout.name}: {layout.fields}" for layout in LAYOUTS)
