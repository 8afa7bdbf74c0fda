"""The run's diary: metrics.jsonl, TensorBoard events, a progress bar.

`metrics.jsonl` is the record that plots, reports and resume read: one JSON
object a step, a line at a time, so that a kill costs at most the last line.
TensorBoard and the bar are views of the same values.
"""

import contextlib
import json
import math
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jaxvlm import bars
from jaxvlm import lock as locks


class Board(Protocol):
  """Another place that shows what a journal writes."""

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Shows the values of a step; a step that it has already may be left."""

  def close(self) -> None:
    """Ends it."""


# (folder of the run, the run's name) -> its board
OpenBoard = Callable[[pathlib.Path, str], Board]


class Journal:
  """Writes what a run measures, step by step.

  Use as a context manager. An existing journal is continued: a torn last line
  is cut, the bar starts at the last recorded step, and TensorBoard forgets
  later ones. Call `truncate` first to resume from an earlier step.

  Args:
    workdir: local folder, made if absent.
    total_steps: where the bar ends.
    name: the bar's label.
    progress: whether to draw a bar on stderr.
    board: opens another place that shows the same values; None: nothing does.
    lock: of `workdir`, if the caller has it; else the journal takes it itself,
      and entering raises `lock.HeldError` where another run writes.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    *,
    total_steps: int,
    name: str = "train",
    progress: bool = True,
    board: OpenBoard | None = None,
    lock: locks.Lock | None = None,
  ):
    if "://" in os.fspath(workdir):
      raise ValueError(
        f"workdir: got {os.fspath(workdir)!r}, expected a local folder: a "
        "journal appends lines, which object stores cannot; write locally and "
        "copy, or mount the bucket"
      )
    self._workdir = pathlib.Path(workdir)
    self._total_steps = total_steps
    self._name = name
    self._progress = progress
    self._open_board = board
    self._lock = lock
    self._stack = contextlib.ExitStack()

  def __enter__(self) -> "Journal":
    with contextlib.ExitStack() as stack:
      if self._lock is None:
        stack.enter_context(locks.hold(self._workdir))
      self._open()
      for opened in (self._file, self._board, self._bar, self._beside):
        if opened is not None:
          stack.callback(opened.close)
      self._stack = stack.pop_all()
    return self

  def _open(self) -> None:
    self._workdir.mkdir(parents=True, exist_ok=True)
    path = self._workdir / "metrics.jsonl"
    records = read(path)
    self.last_step = records[-1]["step"] if records else None
    if records:
      # Also repairs a torn last line, to which nothing may be appended.
      truncate(path, self.last_step)
    # Imported here because it imports torch wherever torch is installed,
    # and readers of a journal should not wait for that.
    import tensorboardX

    self._file = path.open("a", encoding="utf-8")
    self._board = tensorboardX.SummaryWriter(
      str(self._workdir / "tb"),
      # Without it two starts within one second write the same file.
      filename_suffix=f".{time.time_ns()}",
      purge_step=None if self.last_step is None else self.last_step + 1,
    )
    self._beside = None
    if self._open_board is not None:
      self._beside = self._open_board(self._workdir, self._name)
    self._bar = bars.bar(
      None,
      self._name,
      show=self._progress,
      total=self._total_steps,
      initial=self.last_step or 0,
    )

  def __exit__(self, *exception: Any) -> None:
    self._stack.close()

  def write(
    self,
    step: int,
    values: Mapping[str, float],
    text: Mapping[str, str] | None = None,
  ) -> None:
    """Appends the record of one step.

    Args:
      step: how many steps are finished; greater than every recorded one.
      values: name -> number; NaN and infinities are kept.
      text: name -> text such as a sampled completion, for TensorBoard only.

    Raises:
      ValueError: `step` is not new, or a value is named "step".
    """
    if self.last_step is not None and step <= self.last_step:
      raise ValueError(
        f"step: got {step}, expected more than {self.last_step}, the last one "
        "in metrics.jsonl; merge what belongs to one step into one write, and "
        "call journal.truncate before resuming from an earlier step"
      )
    if "step" in values:
      raise ValueError('values: "step" is the record\'s own key; rename it')
    floats = {key: float(values[key]) for key in sorted(values)}
    record = {"step": int(step)} | {k: _to_json(v) for k, v in floats.items()}
    self._file.write(json.dumps(record, allow_nan=False) + "\n")
    self._file.flush()
    self.last_step = int(step)
    for key, value in floats.items():
      self._board.add_scalar(key, value, step)
    for key, value in (text or {}).items():
      self._board.add_text(key, value, step)
    if self._beside is not None:
      self._beside.write(step, floats)
    self._bar.set_postfix(_headline(floats), refresh=False)
    self._bar.update(step - self._bar.n)


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Returns the records of a metrics.jsonl; none if the file is absent.

  A last line that a kill tore is left out.

  Raises:
    ValueError: a line before the last is no record.
  """
  return [record for _, record in _records(pathlib.Path(path))]


def truncate(path: str | os.PathLike, step: int) -> None:
  """Cuts every record after `step`, and a torn last line, atomically.

  Args:
    path: a metrics.jsonl; nothing happens if it is absent.
    step: the last step to keep.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return
  kept = [line for line, record in _records(path) if record["step"] <= step]
  with tempfile.NamedTemporaryFile(
    "wb", dir=path.parent, prefix=path.name, delete=False
  ) as file:
    file.write(b"".join(line + b"\n" for line in kept))
    file.flush()
    os.fsync(file.fileno())
  os.chmod(file.name, path.stat().st_mode)
  os.replace(file.name, path)


def _records(path: pathlib.Path) -> list[tuple[bytes, dict[str, Any]]]:
  """Returns (line without newline, record) of every whole line."""
  if not path.exists():
    return []
  lines = path.read_bytes().split(b"\n")
  if lines[-1] == b"":
    lines.pop()
  records = []
  for number, line in enumerate(lines, start=1):
    try:
      record = json.loads(line)
      step = int(record["step"])
      values = {k: float(v) for k, v in record.items() if k != "step"}
    except (ValueError, TypeError, KeyError) as error:
      if number == len(lines):
        break
      raise ValueError(
        f"{path}, line {number}: expected a JSON object with a step, got "
        f"{line[:80]!r}; only a last line may be torn, so the file was "
        "damaged otherwise: restore or remove it"
      ) from error
    records.append((line, {"step": step} | values))
  return records


def _to_json(value: float) -> float | str:
  # JSON has no NaN; a string keeps the line valid for every reader.
  return value if math.isfinite(value) else str(value)


def _headline(values: Mapping[str, float]) -> dict[str, str]:
  """Returns the few values that the bar shows."""
  losses = [key for key in values if key.startswith("loss/")]
  loss = "loss/total" if "loss/total" in values else next(iter(losses), None)
  shown = {
    "loss": loss,
    "reward": "reward/mean",
    "entropy": "policy/entropy",
    "tokens/s": "time/tokens_per_s",
  }
  return {
    label: f"{values[key]:.4g}" for label, key in shown.items() if key in values
  }
