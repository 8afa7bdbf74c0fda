"""Checkpoints: orbax writes the arrays, a manifest of digests vouches for them.

Orbax restores a folder with flipped bits or foreign files without a word, and
its latest step may be a save that never finished. Here a step exists once
`manifest-<step>.json` does, which is written after orbax has committed and
holds a digest of every file: nothing else is ever chosen.
"""

import concurrent.futures
import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxvlm.typing import PyTree

_MANIFEST = re.compile(r"manifest-(\d+)\.json")
# What a killed save leaves behind; anything else in the folder is not ours.
_LEFTOVER = re.compile(r"(\d+)(\.orbax-checkpoint-tmp.*)?")


class Restored(NamedTuple):
  """What a checkpoint gives back.

  Attributes:
    step: the step it was saved at.
    state: the arrays, in the structure that was asked for.
    extra: the JSON values saved beside them.
  """

  step: int
  state: PyTree
  extra: dict[str, Any]


class Checkpoints:
  """The checkpoints of one run, in one local folder.

  Args:
    folder: where they are; made at the first save.
    keep: how many of the newest to keep.
    identity: what must not change between save and restore, as strings
      (digests of config, tokenizer and data, code version, device layout).
    advisory: fields of `identity` that may differ with a warning. By default
      the device layout: there only equality to the bit is lost.

  Raises:
    ValueError: for a folder that is a URL, `keep` below 1, an identity that
      is not made of strings.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    *,
    keep: int = 2,
    identity: Mapping[str, str],
    advisory: Collection[str] = ("device_layout",),
  ):
    if "://" in os.fspath(folder):
      raise ValueError(
        f"folder: got {os.fspath(folder)!r}, expected a local folder: object "
        "stores have no atomic rename; mount the bucket"
      )
    if keep < 1:
      raise ValueError(f"keep is {keep}, expected at least 1")
    for field, value in identity.items():
      if not isinstance(value, str):
        raise ValueError(
          f"identity[{field!r}] is {value!r}, expected a string; give a digest"
        )
    self._folder = pathlib.Path(folder).absolute()
    self._keep = keep
    self._identity = dict(identity)
    self._advisory = frozenset(advisory)
    self._last: int | None = None  # saved or restored by this object
    self._damaged: set[int] = set()  # found so by restore()
    self._writer = concurrent.futures.ThreadPoolExecutor(1)
    self._pending: concurrent.futures.Future | None = None

  def steps(self) -> list[int]:
    """Returns the steps with a readable manifest, ascending; reads no array."""
    valid = []
    for step in self._named():
      try:
        self._manifest(step)
      except (OSError, ValueError):
        continue
      if (self._folder / str(step)).is_dir():
        valid.append(step)
    return valid

  def save(
    self,
    step: int,
    state: PyTree,
    extra: Mapping[str, Any] | None = None,
    *,
    blocking: bool = True,
  ) -> None:
    """Saves `state` as `step`: durable and complete, or not there at all.

    The step that this object saved or restored last is already there: asking
    again does nothing.

    Args:
      step: the number of steps taken.
      state: a tree of arrays; random keys as `jax.random.key_data`.
      extra: JSON values to keep beside it.
      blocking: whether to return only when the checkpoint is durable; else
        when the arrays are copied, and `wait` or the next `save` tells of
        errors.

    Raises:
      ValueError: for leaves that are not arrays, an `extra` that is not JSON,
        and a folder that holds this or a later step which was not restored.
      OSError: if the folder cannot be written; earlier checkpoints stay.
    """
    self.wait()
    if step == self._last:
      return
    names, leaves, _ = _flatten(state)
    for name, leaf in zip(names, leaves, strict=True):
      if not isinstance(leaf, jax.Array | np.ndarray | np.generic) or (
        jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
      ):
        raise ValueError(
          f"state {name} is a {type(leaf).__name__}, expected an array of "
          "numbers; store keys with jax.random.key_data"
        )
    try:
      extra = json.loads(json.dumps(dict(extra or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
      raise ValueError(f"extra: expected JSON values, got {error}") from error
    later = [s for s in self.steps() if s >= step and s not in self._damaged]
    if later:
      raise ValueError(
        f"{self._folder}: asked to save step {step}, found step {later[-1]}; "
        "restore from this folder first, or choose another"
      )
    manifest = {
      "step": step,
      "identity": self._identity,
      "extra": extra,
      "tree": dict(zip(names, map(_describe, leaves), strict=True)),
    }
    try:
      self._folder.mkdir(parents=True, exist_ok=True)
      if step in self._damaged:
        self._remove(step)
      self._sweep()
      # One a save: after an error, the next starts from nothing.
      checkpointer = ocp.StandardCheckpointer()
      checkpointer.save(
        self._folder / str(step),
        {n: x for n, x in zip(names, map(_array, leaves), strict=True) if x.size},
      )
    except Exception as error:
      raise self._failed(step, error) from error
    self._pending = self._writer.submit(self._commit, checkpointer, manifest)
    if blocking:
      self.wait()

  def wait(self) -> None:
    """Waits for the save under way; raises OSError if it failed."""
    pending, self._pending = self._pending, None
    if pending is not None:
      pending.result()

  def restore(self, abstract_state: PyTree) -> Restored | None:
    """Restores the newest checkpoint whose every byte is as it was written.

    Args:
      abstract_state: a tree of arrays or `jax.ShapeDtypeStruct`: structure,
        shapes, dtypes and shardings to restore to. Without a sharding a leaf
        comes as a NumPy array. Another float dtype is converted to, with a
        warning.

    Returns:
      The checkpoint, or None where nothing was ever committed.

    Raises:
      ValueError: if checkpoints were committed and none is whole, if the
        identity differs, or the structure.
    """
    self.wait()
    damages = {}
    for step in reversed(self._named()):
      try:
        manifest = self._manifest(step)
        self._check_identity(step, manifest["identity"])
        names, leaves, treedef = _flatten(abstract_state)
        self._check_tree(step, manifest["tree"], names, leaves)
        found = _digests(self._folder / str(step))
        ...
      except _Damaged as error:
        damages[step] = str(error)
    return None
