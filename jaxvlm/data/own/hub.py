"""Data sets of the Hugging Face Hub, where the package `datasets` is there."""

from collections.abc import Iterator

from jaxvlm.data.own.files import Found

_PREFIX = "hub:"


def is_name(path: str) -> bool:
  """Whether a path names a data set of the Hub: hub:owner/name."""
  return path.startswith(_PREFIX)


def records(path: str, split: str = "") -> Iterator[Found]:
  """Yields the records of a data set; pictures stay as they are stored.

  Args:
    path: hub:owner/name, or hub:owner/name:configuration.
    split: its split; "" for train.

  Raises:
    ModuleNotFoundError: the package is absent.
    ValueError: it cannot be loaded; names it.
  """
  try:
    import datasets
  except ModuleNotFoundError as e:
    raise ModuleNotFoundError(
      f"{path} is a data set of the Hub, which needs the package datasets;"
      " install jaxvlm[hub], or give a local file"
    ) from e
  name, _, configuration = path.removeprefix(_PREFIX).partition(":")
  split = split or "train"
  try:
    data = datasets.load_dataset(name, configuration or None, split=split)
  except Exception as e:  # a dozen kinds, by network, name and files
    raise ValueError(f"{path}, split {split!r}, cannot be loaded: {e}") from e
  for column, kind in data.features.items():
    inner = getattr(kind, "feature", None)
    if isinstance(kind, datasets.Image):
      data = data.cast_column(column, datasets.Image(decode=False))
    elif isinstance(inner, datasets.Image):
      stored = datasets.List(datasets.Image(decode=False))
      data = data.cast_column(column, stored)
  for number, value in enumerate(data, 1):
    yield Found(f"{name}/{split}:{number}", value)
