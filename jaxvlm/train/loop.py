"""The training loop: inputs in, checkpoints, journal and evaluations out.

The loop knows no objective. What a step sees is a function of (seed, step,
parameters), so a run that is killed and started again with the same command
ends bit-equal: the newest valid checkpoint is restored, the log is cut to it,
and the loop goes on.
"""

import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxvlm import journal as journals
from jaxvlm.train.checkpoint import Checkpoints
from jaxvlm.train.compiles import CompileCounter
from jaxvlm.train.step import TrainState
from jaxvlm.typing import Params, PyTree

# (step, params) -> (inputs of the train step, metrics to log)
Inputs = Callable[[int, Params], tuple[PyTree, Mapping[str, float]]]
# (step, params) -> metrics to log
Evaluate = Callable[[int, Params], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Schedule:
  """When a run ends, evaluates and saves; all in steps.

  Attributes:
    steps: length of the run.
    evaluate_every: also before the first and after the last step; 0 never.
    checkpoint_every: also after the last step.
    abort_after_skips: bad steps in a row that end the run.
  """

  steps: int
  evaluate_every: int = 0
  checkpoint_every: int = 50
  abort_after_skips: int = 8


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
) -> TrainState:
  """Trains until `schedule.steps`, resuming where `workdir` left off.

  Args:
    workdir: metrics.jsonl, TensorBoard events and checkpoints go here.
    name: shown on the progress bar.
    state: the state before the first step; donated.
    train_step: from `make_train_step`.
    frozen: parameters that take no gradient.
    make_inputs: first step -> function that yields a step's inputs.
    schedule: when to stop, evaluate and save.
    identity: what a checkpoint must agree with to be resumed.
    evaluate: measures the policy.

  Returns:
    The final state.

  Raises:
    RuntimeError: too many bad steps in a row.
  """
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  checkpoints = Checkpoints(workdir / "checkpoints", identity=identity)
  restored = checkpoints.restore(state)  # to the devices where it lies
  start = 0
  if restored is not None:
    start, state = restored.step, restored.state
    logging.info("%s: resumed at step %d of %d", name, start, schedule.steps)
  log = workdir / "metrics.jsonl"
  journals.truncate(log, start if restored is not None else -1)
  if start >= schedule.steps and restored is not None:
    return state
  counter = CompileCounter()
  next_inputs = make_inputs(start)
  with journals.Journal(
    workdir, total_steps=schedule.steps, name=name
  ) as journal:
    if start == 0 and evaluate is not None and schedule.evaluate_every:
      journal.write(0, evaluate(0, state.trainable))
    for step in range(start, schedule.steps):
      begin = time.perf_counter()
      inputs, logged = next_inputs(step, state.trainable)
      ready = time.perf_counter()
      state, metrics = train_step(state, frozen, inputs)
      metrics = {k: float(v) for k, v in jax.device_get(metrics).items()}
      end = time.perf_counter()
      _abort_if_stuck(name, step, metrics, schedule)
      record: dict[str, Any] = {**metrics, **logged}
      record["time/inputs_s"] = ready - begin
      record["time/update_s"] = end - ready
      record["time/compiles"] = counter.count
      if "batch/tokens" in logged:
        record["time/tokens_per_s"] = logged["batch/tokens"] / (end - begin)
      done = step + 1
      last = done == schedule.steps
      if evaluate is not None and _due(done, schedule.evaluate_every, last):
        record.update(evaluate(done, state.trainable))
        record["time/evaluate_s"] = time.perf_counter() - end
      journal.write(done, record)
      if _due(done, schedule.checkpoint_every, last):
        checkpoints.save(done, state)
  return state


def _due(step: int, every: int, last: bool) -> bool:
  return bool(every) and (last or step % every == 0)


def _abort_if_stuck(name, step, metrics, schedule) -> None:
  in_row = int(metrics["guard/skipped_in_row"])
  if in_row >= schedule.abort_after_skips:
    raise RuntimeError(
      f"{name}: {in_row} steps in a row, {step + 2 - in_row} to {step + 1},"
      " had a loss or gradient that was not finite or spiked; nothing was"
      " updated since. Lower the learning rate, or look at the rows of these"
      " steps"
    )
