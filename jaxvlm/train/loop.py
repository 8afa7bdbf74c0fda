"""The training loop: inputs in, checkpoints, journal and evaluations out.

The loop knows no objective. What a step sees is a function of (seed, step,
parameters), so a run that is killed and started again with the same command
ends bit-equal: the newest valid checkpoint is restored, the log is cut to it,
and the loop goes on. With several processes every one runs this loop; the
first writes what there is to read.
"""

import contextlib
import dataclasses
import errno
import logging
import math
import pathlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxvlm import distributed
from jaxvlm import journal as journals
from jaxvlm.lock import Lock
from jaxvlm.train import drift, occupancy, preemption, skips
from jaxvlm.train.checkpoint import Checkpoints
from jaxvlm.train.compiles import CompileCounter
from jaxvlm.train.monitor import WATCHING, Monitor, MonitorConfig
from jaxvlm.train.probing import Probes
from jaxvlm.train.step import TrainState
from jaxvlm.typing import Params, PyTree

# (step, params, carry) -> (inputs of the train step, carry for the next step,
# metrics to log). Most runs carry nothing: `()` in, `()` out.
Inputs = Callable[
  [int, Params, PyTree], tuple[PyTree, PyTree, Mapping[str, float]]
]
# (step, params) -> metrics to log
Evaluate = Callable[[int, Params], Mapping[str, float]]
# step, counted from 0 -> ids of the rows in its batch
RowIds = Callable[[int], Sequence[str]]
# what was logged of a step -> how good it is, None where nobody can tell
Score = Callable[[Mapping[str, float]], float | None]

# What a disk says during a run; other errors may be of the data.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@dataclasses.dataclass(frozen=True)
class Schedule:
  """When a run ends, evaluates and saves; all in steps.

  Attributes:
    steps: length of the run.
    evaluate_every: also before the first and after the last step; 0 never.
    checkpoint_every: also after the last step; 0 then only.
    abort_after_skips: bad steps in a row that end the run.
    keep: how many of the newest checkpoints stay.
    keep_best: how many of those with the highest score stay besides.
  """

  steps: int
  evaluate_every: int = 0
  checkpoint_every: int = 50
  abort_after_skips: int = 8
  keep: int = 2
  keep_best: int = 0

  def __post_init__(self):
    least = {
      "steps": 0,
      "evaluate_every": 0,
      "checkpoint_every": 0,
      "abort_after_skips": 1,
      "keep": 1,
      "keep_best": 0,
    }
    for name, smallest in least.items():
      if getattr(self, name) < smallest:
        raise ValueError(
          f"{name} is {getattr(self, name)}, expected at least {smallest}"
        )


def run(
  workdir: str | pathlib.Path,
  name: str,
  state: TrainState,
  train_step: Callable[[TrainState, PyTree, PyTree], tuple[TrainState, dict]],
  frozen: PyTree,
  make_inputs: Callable[[int], Inputs],
  schedule: Schedule,
  *,
  identity: Mapping[str, str],
  evaluate: Evaluate | None = None,
  drift_bounds: drift.Bounds = drift.FLOAT32,
  row_ids: RowIds | None = None,
  score: Score | None = None,
  probes: Probes | None = None,
  watching: MonitorConfig = WATCHING,
  board: journals.OpenBoard | None = None,
) -> TrainState:
  """Trains until `schedule.steps`, resuming where `workdir` left off.

  A run that has ended, or not, goes on to a later end when it is asked for
  one: no step knows how long the run is, so the result equals that of a run
  that was planned so. What was evaluated and saved at the old end, also out of
  turn, stays.

  Args:
    workdir: metrics.jsonl, TensorBoard events and checkpoints go here.
    name: shown on the progress bar.
    state: the state before the first step; donated.
    train_step: from `make_train_step`.
    frozen: parameters that take no gradient.
    make_inputs: first step -> function that yields a step's inputs.
    schedule: when to stop, evaluate and save.
    identity: what a checkpoint must agree with to be resumed: all that
      decides the result but the length of the run, as digests by name. At
      least one.
    evaluate: measures the policy.
    drift_bounds: how far trainer and sampler may be apart before it is said.
    row_ids: names the rows of a batch that the guard refuses, for
      skipped.jsonl.
    score: ranks checkpoints for `schedule.keep_best`.
    probes: look at the policy between evaluations. Where they say that the
      run ends, it is evaluated, saved and never goes on, also not to a later
      end.
    watching: what is a sign that RL fails, and whether it ends the run.
    board: opens another place that shows what is logged.

  Returns:
    The final state.

  Raises:
    HeldError: another process trains in `workdir`; nothing was touched.
    ValueError: an empty identity, another one than the checkpoint's, or fewer
      steps than were taken.
    RuntimeError: too many bad steps in a row.
    OSError: `workdir` cannot be written, before the first step or during the
      run; whole checkpoints stay.
    SystemExit: with `preemption.EXIT_CODE`, after SIGTERM, once the last
      finished step is safe.
    KeyboardInterrupt: after Ctrl-C, with a note that says what is saved.
  """
  workdir = pathlib.Path(workdir)
  checkpoints = Checkpoints(
    workdir / "checkpoints",
    identity=identity,
    keep=schedule.keep,
    keep_best=schedule.keep_best,
  )
  with _alone(workdir) as lock:
    begin = _resume(workdir, name, checkpoints, state, schedule.steps)
    start, state = begin.step, begin.state
    with _explained(workdir):
      _open(workdir, begin)
    ended = begin.ended or (start >= schedule.steps and not begin.fresh)
    if ended and begin.owed is None:
      return state
    counter = CompileCounter()
    with (
      _announced(name, checkpoints, schedule),
      _explained(workdir, only=_DISK),
      _settled(checkpoints),
      preemption.Preemption() as notice,
      _journal(workdir, schedule, name, lock, board) as journal,
    ):
      if begin.owed is not None:
        assert evaluate is not None
        record = begin.owed | dict(evaluate(start, state.trainable))
        journal.write(start, record)
        if score:
          checkpoints.rank(start, score(record))
      if start >= schedule.steps or begin.ended:
        return state
      log = workdir / "metrics.jsonl"
      known = journals.read(log) if distributed.is_writer() else ()
      alarm = drift.Alarm(drift_bounds, known)
      monitor = Monitor(watching, known)
      next_inputs = make_inputs(start)
      skipped = float(state.guard.skipped_total)
      if begin.fresh:
        first: dict[str, float] = {}
        if probes is not None and probes.every:
          first |= probes.measure(0, state.trainable)
        if evaluate is not None and schedule.evaluate_every:
          first |= evaluate(0, state.trainable)
        if first:
          monitor.evaluated(0, first)
          journal.write(0, first)
      for step in range(start, schedule.steps):
        asked = time.perf_counter()
        inputs, carry, logged = next_inputs(step, state.trainable, state.carry)
        state = state._replace(carry=carry)
        ready = time.perf_counter()
        state, metrics = train_step(state, frozen, inputs)
        metrics = {k: float(v) for k, v in jax.device_get(metrics).items()}
        end = time.perf_counter()
        if metrics["guard/skipped"] > skipped:
          _report_skip(workdir, name, step, metrics, schedule, row_ids)
        skipped = metrics["guard/skipped"]
        record: dict[str, Any] = {**metrics, **logged}
        record |= alarm.check(step + 1, metrics)
        record["time/inputs_s"] = ready - asked
        record["time/update_s"] = end - ready
        record["time/compiles"] = counter.count
        if "batch/tokens" in logged:
          record["time/tokens_per_s"] = logged["batch/tokens"] / (end - asked)
        if lock is not None:
          lock.check()
        done = step + 1
        last = done == schedule.steps
        record |= monitor.check(done, record)
        kept: dict[str, Any] = {}
        if why := monitor.ending():
          saved = 1 - done / schedule.steps
          logging.warning(
            "%s ends at step %d, %.0f %% of its steps are saved: %s",
            name, done, 100 * saved, why,
          )  # fmt: skip
          kept, last = {"ended": why}, True
        if probes is not None and probes.due(done, last):
          began = time.perf_counter()
          probed = probes.measure(done, state.trainable)
          record |= probed
          record["time/probe_s"] = time.perf_counter() - began
          if why := probes.broken(probed):
            logging.warning("%s ends at step %d: %s", name, done, why)
            kept, last = {"ended": why}, True
        due = evaluate is not None and _due(done, schedule.evaluate_every, last)
        ending = notice.noticed()
        if ending and due:
          # An evaluation may outlast the machine: the next start makes it.
          kept["unevaluated"] = _plain(record)
          checkpoints.save(done, state, kept)
          raise SystemExit(preemption.EXIT_CODE)
        if due:
          began = time.perf_counter()
          record.update(evaluate(done, state.trainable))
          record["time/evaluate_s"] = time.perf_counter() - began
          monitor.evaluated(done, record)
        journal.write(done, record)
        if ending or _due(done, schedule.checkpoint_every, last):
          rank = score(record) if score else None
          blocking = ending or last
          checkpoints.save(done, state, kept, score=rank, blocking=blocking)
        checkpoints.check()
        if ending:
          raise SystemExit(preemption.EXIT_CODE)
        if last:
          break
      checkpoints.wait()
      if notice.noticed():
        raise SystemExit(preemption.EXIT_CODE)
    return state


class _Begin(NamedTuple):
  """Where a run begins.

  Attributes:
    step: steps that are taken already.
    state: after them.
    fresh: nothing was restored.
    owed: what is known of the last of these steps, where SIGTERM came before
      its evaluation, which this start makes; else None.
    ended: probes or monitor ended the run there.
  """

  step: int
  state: TrainState
  fresh: bool = True
  owed: Mapping[str, float] | None = None
  ended: bool = False


def _resume(
  workdir: pathlib.Path,
  name: str,
  checkpoints: Checkpoints,
  state: TrainState,
  steps: int,
) -> _Begin:
  """Returns the newest whole checkpoint, or the start.

  Raises:
    ValueError: the run went further than to `steps` already.
  """
  if checkpoints.committed():
    # Its memory goes to the state that is read in its place.
    state = _given_back(state)
  restored = checkpoints.restore(state)  # to the devices where it lies
  if restored is None:
    return _Begin(0, state)
  if restored.step > steps:
    raise ValueError(
      f"{workdir} was trained to step {restored.step}, and {name} is to end"
      f" at step {steps}: a run can be lengthened, not shortened; ask for as"
      " many steps, or choose another folder"
    )
  logging.info("%s: resumed at step %d of %d", name, restored.step, steps)
  owed = restored.extra.get("unevaluated") or None
  ended = "ended" in restored.extra
  return _Begin(restored.step, restored.state, False, owed, ended)


class _Silent:
  """The journal of the processes that have none."""

  def write(self, step: int, values: Mapping[str, float]) -> None:
    pass


def _given_back(state: TrainState) -> TrainState:
  """Returns shapes and shardings of a state whose memory is given back."""

  def one(x):
    if not isinstance(x, jax.Array):
      return x
    abstract = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
    x.delete()
    return abstract

  return jax.tree.map(one, state)


def _journal(
  workdir: pathlib.Path,
  schedule: Schedule,
  name: str,
  lock: Lock | None,
  board: journals.OpenBoard | None,
) -> contextlib.AbstractContextManager:
  if not distributed.is_writer():
    return contextlib.nullcontext(_Silent())
  return journals.Journal(
    workdir, total_steps=schedule.steps, name=name, board=board, lock=lock
  )


@contextlib.contextmanager
def _alone(workdir: pathlib.Path) -> Iterator[Lock | None]:
  """Holds the folder; the first process gets the lock, the others None."""
  with contextlib.ExitStack() as stack:
    with _explained(workdir):
      lock = stack.enter_context(occupancy.occupied(workdir))
    yield lock


def _open(workdir: pathlib.Path, begin: _Begin) -> None:
  """Makes the folder, sees that it can be written, cuts its logs.

  Records of steps that were taken stay, but not of one whose evaluation is
  owed: its record is written with it, and an earlier start that saved nothing
  may have done so.
  """
  if not distributed.is_writer():
    return
  workdir.mkdir(parents=True, exist_ok=True)
  probe = workdir / ".writable"
  probe.write_bytes(b"x")
  probe.unlink()
  last = -1 if begin.fresh else begin.step
  owed = begin.owed is not None
  journals.truncate(workdir / "metrics.jsonl", last - 1 if owed else last)
  skips.truncate(workdir / skips.NAME, last)


@contextlib.contextmanager
def _explained(
  workdir: pathlib.Path, only: Collection[int] | None = None
) -> Iterator[None]:
  """Says of errors of the disk which folder and what to do."""
  try:
    yield
  except OSError as error:
    if only is not None and error.errno not in only:
      raise  # of something else, or of a checkpoint, which says it already
    raise OSError(
      error.errno,
      f"{workdir}: {error.strerror or error}; make the folder writable and"
      " free space, then start the same command again: it resumes from the"
      " last whole checkpoint",
    ) from error


@contextlib.contextmanager
def _settled(checkpoints: Checkpoints) -> Iterator[None]:
  """Leaves no save under way behind, unless other processes may be gone."""
  try:
    yield
  finally:
    if jax.process_count() == 1:
      with contextlib.suppress(OSError):  # raised already, or less to the point
        checkpoints.wait()


@contextlib.contextmanager
def _announced(
  name: str, checkpoints: Checkpoints, schedule: Schedule
) -> Iterator[None]:
  """Says what is saved when the run is told to end."""

  def line(why: str) -> str:
    saved = checkpoints.steps()
    if not saved:
      return f"{name}: {why}; no step is saved yet, the same command begins it"
    return (
      f"{name}: {why}; step {saved[-1]} of {schedule.steps} is saved,"
      f" {preemption.RESUMES}"
    )

  try:
    yield
  except KeyboardInterrupt as error:
    error.add_note(line("interrupted"))
    raise
  except SystemExit as error:
    if error.code == preemption.EXIT_CODE and distributed.is_writer():
      logging.warning("%s", line("told to end"))
    raise


def _due(step: int, every: int, last: bool) -> bool:
  return bool(every) and (last or step % every == 0)


def _plain(record: Mapping[str, float]) -> dict[str, float | str]:
  """Returns what JSON can hold; the journal reads either."""
  floats = {name: float(value) for name, value in record.items()}
  return {k: v if math.isfinite(v) else str(v) for k, v in floats.items()}


def _report_skip(workdir, name, step, metrics, schedule, row_ids) -> None:
  """Files the rows of a refused batch; raises after too many in a row."""
  rows = tuple(row_ids(step)) if row_ids else ()
  path = workdir / skips.NAME
  if distributed.is_writer():
    skips.append(
      path, step + 1, metrics["loss/total"], metrics["grad/norm"], rows
    )
  in_row = int(metrics["guard/skipped_in_row"])
  if in_row >= schedule.abort_after_skips:
    raise RuntimeError(
      f"{name}: {in_row} steps in a row, {step + 2 - in_row} to {step + 1},"
      " had a loss or gradient that was not finite or spiked; nothing was"
      " updated since. Lower the learning rate, or look at the rows of these"
      f" steps in {path}; the last: {', '.join(rows[:8]) or 'not known'}"
    )
