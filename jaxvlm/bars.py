"""Progress bars on standard error: one look, one switch.

`logging.getLogger("jaxvlm.bars").setLevel("CRITICAL")` hides them all, as the
`--quiet` of a command does.
"""

import logging
import sys
from collections.abc import Iterable
from typing import Any

import tqdm

_LOGGER = logging.getLogger(__name__)
# Seconds before a bar of what is mostly short appears.
PATIENCE = 2


def hide() -> None:
  """Hides the bars of this process from now on."""
  _LOGGER.setLevel(logging.CRITICAL)


def shown() -> bool:
  """Returns whether bars are wanted."""
  return _LOGGER.isEnabledFor(logging.WARNING)


def bar(
  items: Iterable | None, desc: str, *, show: bool = True, **settings: Any
) -> tqdm.tqdm:
  """Returns a bar over items, or one to be moved by hand.

  Args:
    items: what is counted; None where `update` is called, then with `total`.
    desc: what is shown in front.
    show: False hides this one.
    **settings: of tqdm, such as total, unit, leave; `delay=PATIENCE` for what
      is mostly done before anybody asks.
  """
  settings = {"mininterval": 0.5, "dynamic_ncols": True, **settings}
  hidden = not (show and shown())
  return tqdm.tqdm(
    items, desc=desc, file=sys.stderr, disable=hidden, **settings
  )
