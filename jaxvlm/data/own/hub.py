"""Data sets of the Hugging Face Hub, where the package `datasets` is there."""

import logging
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from jaxvlm.data.own.files import Found

_PREFIX = "hub:"
# train[:2101], which the package cuts to what there is without a word.
_SLICE = re.compile(r"\[(\d*):(\d+)\]$")


def is_name(path: str) -> bool:
  """Whether a path names a data set of the Hub: hub:owner/name."""
  return path.startswith(_PREFIX)


def root(path: str) -> pathlib.Path:
  """Returns the folder that pictures of a data set cannot leave: the cache.

  Args:
    path: hub:owner/name.

  Raises:
    ModuleNotFoundError: the package is absent.
  """
  return pathlib.Path(_package(path).config.HF_CACHE_HOME).expanduser()


def records(path: str, split: str = "") -> Iterator[Found]:
  """Yields the records of a data set; pictures stay as they are stored.

  Args:
    path: hub:owner/name, or hub:owner/name:configuration.
    split: its split; "" for train.

  Raises:
    ModuleNotFoundError: the package is absent.
    ValueError: it cannot be loaded; names it.
  """
  datasets = _package(path)
  name, _, configuration = path.removeprefix(_PREFIX).partition(":")
  split = split or "train"
  try:
    data = datasets.load_dataset(name, configuration or None, split=split)
  except Exception as e:  # a dozen kinds, by network, name and files
    raise ValueError(f"{path}, split {split!r}, cannot be loaded: {e}") from e
  slice_ = _SLICE.search(split)
  if slice_ and len(data) < int(slice_[2]) - int(slice_[1] or 0):
    logging.warning(
      "%s, split %s: there are %d records, fewer than asked for",
      path,
      split,
      len(data),
    )
  stored = datasets.Image(decode=False)
  for column, kind in data.features.items():
    if isinstance(kind, datasets.Image):
      data = data.cast_column(column, stored)
    elif isinstance(getattr(kind, "feature", None), datasets.Image):
      data = data.cast_column(column, datasets.List(stored))
  for number, value in enumerate(data, 1):
    yield Found(f"{name}/{split}:{number}", value)


def _package(path: str) -> Any:
  try:
    import datasets
  except ModuleNotFoundError as e:
    raise ModuleNotFoundError(
      f"{path} is a data set of the Hub, which needs the package datasets;"
      " install jaxvlm[hub], or give a local file"
    ) from e
  return datasets
