"""A folder for one run alone, agreed upon by all processes of the run."""

import contextlib
import pathlib
from collections.abc import Iterator

from jaxvlm import distributed
from jaxvlm import lock as locks


@contextlib.contextmanager
def occupied(folder: pathlib.Path) -> Iterator[locks.Lock | None]:
  """Holds `folder` while the block runs; all processes call it together.

  Process 0 takes the lock (`jaxvlm.lock`) and gets it; the others get None.

  Raises:
    HeldError: in all processes, if another run has the folder.
    OSError: the folder cannot be written.
  """
  with contextlib.ExitStack() as stack:
    lock = None
    if distributed.is_writer():
      try:
        lock = stack.enter_context(locks.hold(folder))
      except (locks.HeldError, OSError) as error:
        distributed.from_writer(str(error))
        raise
    refusal = distributed.from_writer(None)
    if refusal:
      raise locks.HeldError(refusal)
    yield lock
