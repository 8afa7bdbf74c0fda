"""Checkpoints: orbax writes the arrays, a manifest of digests vouches for them.

Orbax restores a folder with flipped bits or foreign files without a word, and
its latest step may be a save that never finished. Here a step exists once its
manifest does (`jaxvlm.train.manifest`), which is written after orbax has
committed: nothing else is ever chosen. With several processes the folder is a
shared one; the first process decides what is in it, the others must see it too.
"""

import concurrent.futures
import contextlib
import json
import logging
import math
import os
import pathlib
import re
import shutil
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxvlm import distributed
from jaxvlm import lock as locks
from jaxvlm.train import arrays as arrays_lib
from jaxvlm.train import manifest as manifests
from jaxvlm.typing import PyTree

# What a killed save leaves behind; other names in the folder are not ours.
_UNFINISHED = re.compile(
  r"\d+(\.orbax-checkpoint-tmp.*)?|manifest-\d+\.json\.tmp"
)


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
    keep_best: how many of those with the highest score to keep besides.
    identity: what must not change between save and restore, as strings
      (digests of config, tokenizer and data, code version, device layout).
    advisory: fields of `identity` that may differ with a warning. By default
      the device layout: there only equality to the bit is lost.

  Raises:
    ValueError: for a folder that is a URL, `keep` below 1, `keep_best` below
      0, or an identity that is empty or not made of strings.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    *,
    keep: int = 2,
    keep_best: int = 0,
    identity: Mapping[str, str],
    advisory: Collection[str] = ("device_layout",),
  ):
    if "://" in os.fspath(folder):
      raise ValueError(
        f"folder: got {os.fspath(folder)!r}, expected a local folder: object "
        "stores have no atomic rename; mount the bucket"
      )
    if keep < 1 or keep_best < 0:
      raise ValueError(
        f"keep is {keep} and keep_best {keep_best}, expected at least 1 and 0"
      )
    if not identity:
      raise ValueError(
        "identity is empty, expected at least one field: without one, the"
        " checkpoints of other settings would be restored in silence; give a"
        ' digest of what decides the result, such as {"settings":'
        " config.digest(settings)}"
      )
    if isinstance(advisory, str):
      raise ValueError(
        f"advisory is the text {advisory!r}, expected a collection of fields"
      )
    for field, value in identity.items():
      if not isinstance(value, str):
        raise ValueError(
          f"identity: {field} is {value!r}, expected a string; give a digest"
        )
    self._folder = pathlib.Path(folder).absolute()
    self._keep = keep
    self._keep_best = keep_best
    self._identity = dict(identity)
    self._advisory = frozenset(advisory)
    self._last: int | None = None  # saved or restored by this object
    self._damaged: frozenset[int] = frozenset()  # passed over by restore()
    self._writer = concurrent.futures.ThreadPoolExecutor(1)
    self._pending: concurrent.futures.Future | None = None

  def steps(self) -> list[int]:
    """Returns the steps with a whole manifest, ascending; reads no array."""
    whole = []
    for step in manifests.steps(self._folder):
      try:
        manifests.read(self._folder, step)
      except manifests.DamagedError:
        continue
      whole.append(step)
    return whole

  def committed(self) -> bool:
    """Returns whether anything was ever committed, whole or not by now.

    Then `restore` finds a whole step or raises. All processes call it.
    """
    return distributed.from_writer(bool(manifests.steps(self._folder)))

  def best(self) -> int | None:
    """Returns the whole step with the highest score, None if none has one."""
    ranked = self._ranked(self.steps())
    return ranked[-1] if ranked else None

  def _ranked(self, steps: Collection[int]) -> list[int]:
    """Returns those of `steps` that have a score, best and newest last."""
    scores = {s: manifests.read(self._folder, s).get("score") for s in steps}
    scored = [s for s in steps if scores[s] is not None]
    return sorted(scored, key=lambda s: (scores[s], s))

  def save(
    self,
    step: int,
    state: PyTree,
    extra: Mapping[str, Any] | None = None,
    *,
    score: float | None = None,
    blocking: bool = True,
  ) -> None:
    """Saves `state` as `step`: durable and complete, or not there at all.

    The step that this object saved or restored last is on the disk already:
    asking for it again does nothing.

    Args:
      step: the number of steps taken.
      state: a tree of arrays; random keys as `jax.random.key_data`.
      extra: JSON values to keep beside it.
      score: how good it is, for `keep_best`; one that is not finite is none.
      blocking: whether to return only when the checkpoint is durable; else
        when the arrays are copied. Then call `wait` before the program ends;
        it, or the next `save`, tells of errors.

    Raises:
      ValueError: for leaves that are not arrays, an `extra` that is not JSON,
        or a folder that holds this or a later step which was not restored.
      HeldError: another process is saving into the folder.
      OSError: if the folder cannot be written; earlier checkpoints stay.
    """
    self.wait()
    if step == self._last:
      return
    arrays = arrays_lib.flatten("state", state, arrays_lib.ARRAYS)
    try:
      extra = json.loads(json.dumps(dict(extra or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
      raise ValueError(f"extra: {error}, expected JSON values") from error
    if distributed.is_writer():
      self._refuse_older(step)
    body = {
      "identity": self._identity,
      "extra": extra,
      "score": _finite(score),
      "tree": {name: arrays_lib.describe(x) for name, x in arrays.items()},
    }
    # Held until the step exists: what is unfinished in the folder then is of
    # no living process, and may be swept.
    held = contextlib.ExitStack()
    try:
      if distributed.is_writer():
        held.enter_context(locks.hold(self._folder))
        self._sweep(step)
      # A new one for each save: an error leaves nothing behind in it.
      checkpointer = ocp.StandardCheckpointer()
      # Orbax stores neither empty arrays nor NumPy scalars.
      checkpointer.save(
        self._folder / str(step),
        {
          name: np.asarray(x) if isinstance(x, np.generic) else x
          for name, x in arrays.items()
          if x.size
        },
      )
    except BaseException as error:
      held.close()
      if isinstance(error, locks.HeldError) or not isinstance(error, Exception):
        raise
      raise self._failed(step, error) from error
    self._pending = self._writer.submit(
      self._commit, checkpointer, step, body, held
    )
    if blocking:
      self.wait()

  def rank(self, step: int, score: float | None) -> None:
    """Gives a committed step the score that it was saved without."""
    if distributed.is_writer():
      manifests.amend(self._folder, step, {"score": _finite(score)})

  def wait(self) -> None:
    """Waits for the save under way.

    Raises:
      OSError: it failed.
      PeerError: another process did not finish its part.
    """
    pending, self._pending = self._pending, None
    if pending is not None:
      pending.result()

  def check(self) -> None:
    """Raises OSError if the save under way has failed; waits for nothing."""
    if self._pending is not None and self._pending.done():
      self.wait()

  def restore(
    self, abstract_state: PyTree, *, step: int | None = None
  ) -> Restored | None:
    """Restores the newest checkpoint whose every byte is as it was written.

    A damaged one is named in a warning and passed over.

    Args:
      abstract_state: a tree of arrays or `jax.ShapeDtypeStruct`: structure,
        shapes, dtypes and shardings to restore to. A leaf without sharding
        comes as a NumPy array. Another float dtype is converted to, with a
        warning.
      step: restore this one, such as `best()`, or none.

    Returns:
      The checkpoint, or None where nothing was ever committed.

    Raises:
      ValueError: if checkpoints were committed and none is whole, or if the
        newest whole one has another identity or structure.
    """
    self.wait()
    wanted = arrays_lib.flatten(
      "abstract_state",
      abstract_state,
      (*arrays_lib.ARRAYS, jax.ShapeDtypeStruct),
    )
    chosen, damages = distributed.from_writer(
      manifests.newest_whole(self._folder, step)
      if distributed.is_writer()
      else None
    )
    if chosen is not None:
      return self._load(chosen, frozenset(damages), abstract_state, wanted)
    if damages:
      raise ValueError(
        f"{self._folder}: checkpoints were committed and none is whole: "
        f"{'; '.join(text for _, text in damages)}; bring the folder back from "
        "a copy, or choose another to start at step 0"
      )
    unfinished = self._unfinished()
    logging.log(
      logging.WARNING if unfinished else logging.INFO,
      "%s: no checkpoint was committed (unfinished: %s), starting at step 0",
      self._folder,
      ", ".join(path.name for path in unfinished) or "none",
    )
    return None

  def _load(
    self, step: int, damages, abstract_state: PyTree, wanted: dict[str, Any]
  ) -> Restored:
    """Reads the arrays of a step that was found whole."""
    try:
      body = manifests.read(self._folder, step)
    except manifests.DamagedError as error:
      distributed.agree(f"what {self._folder} holds", str(error))
      raise
    digest = manifests.fingerprint(body)
    distributed.agree(f"what {self._folder} holds", f"step {step}, {digest}")
    self._check_identity(step, body["identity"])
    where = f"{self._folder}: step {step}"
    arrays_lib.check_same(where, body["tree"], wanted)
    targets = {name: arrays_lib.target_of(x) for name, x in wanted.items()}
    stored = {name: x for name, x in targets.items() if x.size}
    arrays = ocp.StandardCheckpointer().restore(
      self._folder / str(step), stored
    )
    state = jax.tree.unflatten(
      jax.tree.structure(abstract_state),
      [
        arrays[n] if n in stored else arrays_lib.empty(x)
        for n, x in targets.items()
      ],
    )
    self._last = step
    self._damaged = frozenset(number for number, _ in damages)
    return Restored(step, state, body["extra"])

  def _commit(
    self,
    checkpointer: ocp.StandardCheckpointer,
    step: int,
    body: dict,
    held: contextlib.ExitStack,
  ) -> None:
    """Waits for orbax, makes the step exist, then removes old ones."""
    with held:
      self._finish(checkpointer, step, body)
    self._last, self._damaged = step, frozenset()

  def _finish(
    self, checkpointer: ocp.StandardCheckpointer, step: int, body: dict
  ) -> None:
    try:
      checkpointer.wait_until_finished()
      if distributed.is_writer():
        manifests.write(self._folder, step, body)
        self._remove_old(step)
      # No process may believe in a step whose manifest is not there.
      distributed.barrier(f"save {step} in {self._folder}")
    except distributed.PeerError:
      raise  # nothing is wrong with the folder
    except Exception as error:
      raise self._failed(step, error) from error

  def _refuse_older(self, step: int) -> None:
    later = [s for s in self.steps() if s >= step and s not in self._damaged]
    if later:
      raise ValueError(
        f"{self._folder}: asked to save step {step}, found step {later[-1]}; "
        "restore from this folder first, or choose another"
      )

  def _remove_old(self, step: int) -> None:
    """Keeps the newest and the best of the whole steps."""
    damaged = self._damaged - {step}
    whole = [s for s in self.steps() if s not in damaged]
    best = self._ranked(whole)[-self._keep_best :] if self._keep_best else []
    for old in manifests.steps(self._folder):
      if old not in whole[-self._keep :] and old not in best:
        self._remove(old)

  def _remove(self, step: int) -> None:
    # In this order: arrays without a manifest are no checkpoint.
    manifests.location(self._folder, step).unlink()
    shutil.rmtree(self._folder / str(step), ignore_errors=True)

  def _sweep(self, step: int) -> None:
    """Removes what killed saves left, and a damaged `step`."""
    if step in manifests.steps(self._folder):
      self._remove(step)
    for path in self._unfinished():
      if path.is_dir():
        shutil.rmtree(path)
      else:
        path.unlink()

  def _unfinished(self) -> list[pathlib.Path]:
    if not self._folder.exists():
      return []
    matches = map(_UNFINISHED.fullmatch, os.listdir(self._folder))
    names = {match[0] for match in matches if match}
    committed = map(str, manifests.steps(self._folder))
    return [self._folder / name for name in sorted(names.difference(committed))]

  def _failed(self, step: int, error: Exception) -> OSError:
    return OSError(
      f"{self._folder}: could not save step {step}: {error}; make the folder "
      f"writable and free space; whole checkpoints in it: {self.steps()}"
    )

  def _check_identity(self, step: int, saved: Mapping[str, str]) -> None:
    for field in sorted(saved.keys() | self._identity.keys()):
      found, expected = saved.get(field), self._identity.get(field)
      if found == expected:
        continue
      message = (
        f"{self._folder}: step {step} was saved with {field} {found!r}, "
        f"expected {expected!r}, that of this run"
      )
      if field not in self._advisory:
        raise ValueError(
          f"{message}; run as the checkpoint was made, or choose another folder"
        )
      logging.warning("%s; results may differ in the last bits", message)


def read_arrays(
  folder: pathlib.Path, targets: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
  """Returns some of the arrays of one step, by name; verifies nothing.

  Args:
    folder: of the step.
    targets: name -> shape, dtype and where it goes.
  """
  targets = dict(targets)
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    return checkpointer.restore(
      folder,
      args=ocp.args.PyTreeRestore(
        item=targets,
        restore_args=ocp.checkpoint_utils.construct_restore_args(targets),
        partial_restore=True,
      ),
    )


def _finite(score: float | None) -> float | None:
  return score if score is not None and math.isfinite(score) else None
