"""Weights & Biases beside a journal, for who asks for it by a flag.

The only module that sends anything off the machine: numbers of the journal and
the run's name, to the account that `wandb login` set up. WANDB_MODE=offline
keeps them in the run's folder.
"""

import hashlib
import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxvlm.journal import OpenBoard


def opener(project: str) -> OpenBoard:
  """Returns what opens a board in a project.

  Raises:
    ValueError: the package is not installed.
  """
  if importlib.util.find_spec("wandb") is None:
    raise ValueError(
      f"wandb_project is {project!r} and the package wandb is not installed;"
      " install the extra, pip install 'jaxvlm[wandb]', or leave the flag out:"
      " metrics.jsonl and TensorBoard are written in any case"
    )
  return lambda folder, name: _Board(project, folder, name)


class _Board:
  """One run; the same folder goes on with the same one."""

  def __init__(self, project: str, folder: pathlib.Path, name: str):
    import wandb  # slow, and an extra

    place = str(folder.absolute()).encode()
    self._run: Any = wandb.init(
      project=project,
      name=name,
      id=hashlib.sha256(place).hexdigest()[:16],
      resume="allow",
      dir=str(folder),
    )

  def write(self, step: int, values: Mapping[str, float]) -> None:
    self._run.log(dict(values), step=step)

  def close(self) -> None:
    self._run.finish()
