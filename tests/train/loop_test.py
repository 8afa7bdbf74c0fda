"""The loop: when it evaluates, saves and stops, and how it resumes.

The step is a small regression; what a step sees depends on its number and on
the parameters, as on-policy training does.
"""

import contextlib
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import journal, lock
from jaxvlm.train import loop, occupancy
from jaxvlm.train import step as step_lib
from jaxvlm.train.compiles import CompileCounter
from jaxvlm.train.monitor import WATCHING, MonitorConfig
from jaxvlm.train.optimizer import OptimizerConfig, make_optimizer
from jaxvlm.train.probing import Probes
from jaxvlm.train.step import init_state, make_train_step

STEPS = 6
OPTIMIZER = make_optimizer(OptimizerConfig(1e-1, warmup_steps=2))
IDENTITY = {"model": "regression"}


class Killed(BaseException):
  """Stands for a kill: nothing in the loop may catch it."""


def objective(params, frozen, batch, total):
  error = batch["x"] @ params["w"] - batch["y"] + frozen["shift"]
  return jnp.sum(error**2) / total, {}


@functools.cache
def step():
  return make_train_step(
    objective, lambda batch: jnp.float32(batch["y"].size), OPTIMIZER
  )


def batch(number, params, bad=()):
  rng = np.random.default_rng(number)
  x = rng.normal(size=(4, 3)).astype(np.float32)
  # On-policy: the data depend on the parameters.
  y = np.tanh(x @ np.asarray(params["w"])) + 1
  if number in bad:
    y[0] = np.nan
  return {"x": x, "y": y.astype(np.float32)}


def run(
  folder,
  *,
  steps=STEPS,
  save=2,
  evaluate_every=3,
  kill=None,
  bad=(),
  abort=8,
  identity=IDENTITY,
  probes=None,
  watching=WATCHING,
  grouped=False,
):
  """Runs or resumes; `kill` is (moment, step) of an exception."""

  def die(moment, number):
    if kill == (moment, number):
      raise Killed

  def make_inputs(start):
    def inputs(number, params, carry):
      die("inputs", number)
      data = batch(number, params, bad)
      logged = {"data/first": float(number)}
      if grouped:  # as GRPO whose entropy halves with every step
        logged |= {"reward/degenerate_groups": 0.5}
        logged |= {"policy/entropy": 0.5**number}
      return data, carry, logged

    return inputs

  def evaluate(number, params):
    die("evaluate", number)
    return {"eval/size": float(np.abs(np.asarray(params["w"])).sum())}

  state = init_state({"w": jnp.array([1.0, -2.0, 0.5])}, OPTIMIZER)
  return loop.run(
    folder,
    "run",
    state,
    step(),
    {"shift": jnp.float32(0.25)},
    make_inputs,
    loop.Schedule(steps, evaluate_every, save, abort_after_skips=abort),
    identity=identity,
    evaluate=evaluate,
    probes=probes,
    watching=watching,
  )


def records(folder):
  return [
    {k: v for k, v in record.items() if not k.startswith("time/")}
    for record in journal.read(folder / "metrics.jsonl")
  ]


def bits(tree):
  return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  folder = tmp_path_factory.mktemp("undisturbed")
  return bits(run(folder)), records(folder)


def test_what_is_logged_and_when(undisturbed):
  _, found = undisturbed
  assert [r["step"] for r in found] == list(range(STEPS + 1))
  evaluated = [r["step"] for r in found if "eval/size" in r]
  assert evaluated == [0, 3, 6]
  assert [r["data/first"] for r in found[1:]] == list(range(STEPS))
  for record in found[1:]:
    assert {"loss/total", "grad/norm", "guard/skipped"} <= record.keys()


def test_evaluations_and_checkpoints_include_the_last_step(tmp_path):
  run(tmp_path, steps=5, save=4, evaluate_every=4)
  found = records(tmp_path)
  assert [r["step"] for r in found if "eval/size" in r] == [0, 4, 5]
  saved = {p.name for p in (tmp_path / "checkpoints").glob("manifest-*")}
  assert saved == {"manifest-4.json", "manifest-5.json"}


def probing(limit=math.inf):
  def measure(number, params):
    return {"probe/step": float(number)}

  def broken(probed):
    return "too far" if probed["probe/step"] > limit else ""

  return Probes(2, measure, broken)


def test_probes_are_logged_and_change_nothing(tmp_path, undisturbed):
  final = run(tmp_path, steps=5, probes=probing())
  found = records(tmp_path)
  assert [r["probe/step"] for r in found if "probe/step" in r] == [0, 2, 4, 5]
  assert bits(final) == bits(run(tmp_path / "plain", steps=5))


def test_a_run_that_probes_end_is_evaluated_saved_and_over(tmp_path):
  ended = run(tmp_path, probes=probing(limit=3))
  found = records(tmp_path)
  assert [r["step"] for r in found] == [0, 1, 2, 3, 4]
  assert "eval/size" in found[-1]
  for more in (STEPS, 2 * STEPS):
    again = run(tmp_path, steps=more, probes=probing(limit=3))
    assert bits(again) == bits(ended)
    assert records(tmp_path) == found


def test_a_run_that_its_monitor_condemns_is_over(tmp_path, caplog):
  watching = MonitorConfig(early_stop=True, first=1, second=3, window=1)
  told = dataclasses.replace(watching, early_stop=False)
  run(tmp_path / "told", watching=told, grouped=True)
  assert len(records(tmp_path / "told")) == STEPS + 1
  assert "entropy fell by 75%, from 1.000 nats" in caplog.text
  assert "ends at" not in caplog.text
  # A kill between the two steps changes nothing.
  with pytest.raises(Killed):
    run(tmp_path, watching=watching, grouped=True, kill=("inputs", 2))
  ended = run(tmp_path, watching=watching, grouped=True)
  assert "run ends at step 3, 50 % of its steps are saved" in caplog.text
  found = records(tmp_path)
  assert [r["step"] for r in found] == [0, 1, 2, 3]
  assert "eval/size" in found[-1]
  assert found[-1]["monitor/entropy_drop"] == pytest.approx(0.75)
  again = run(tmp_path, watching=watching, grouped=True)
  assert bits(again) == bits(ended) and records(tmp_path) == found


MOMENTS = [("inputs", n) for n in range(STEPS)] + [
  ("evaluate", n) for n in (0, 3, 6)
]


@pytest.mark.parametrize("kill", MOMENTS, ids=lambda k: f"{k[0]}-{k[1]}")
def test_a_killed_run_ends_bit_equal(tmp_path, undisturbed, kill):
  with pytest.raises(Killed):
    run(tmp_path, kill=kill)
  final = run(tmp_path)
  assert bits(final) == undisturbed[0]
  assert records(tmp_path) == undisturbed[1]


def test_a_run_killed_again_and_again_ends_bit_equal(tmp_path, undisturbed):
  for number in (1, 3, 3, 5):
    with pytest.raises(Killed):
      run(tmp_path, save=1, kill=("inputs", number))
  assert bits(run(tmp_path, save=1)) == undisturbed[0]
  assert records(tmp_path) == undisturbed[1]


def test_a_line_torn_by_the_kill_is_cut(tmp_path, undisturbed):
  with pytest.raises(Killed):
    run(tmp_path, kill=("inputs", 4))
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 5, "loss/to')
  assert bits(run(tmp_path)) == undisturbed[0]
  assert records(tmp_path) == undisturbed[1]


def test_a_finished_run_returns_at_once(tmp_path, undisturbed):
  run(tmp_path)
  log = (tmp_path / "metrics.jsonl").read_bytes()
  boards = set((tmp_path / "tb").iterdir())
  # Would raise if a single batch or evaluation were asked for.
  again = run(tmp_path, kill=("inputs", STEPS - 1))
  assert bits(again) == undisturbed[0]
  assert (tmp_path / "metrics.jsonl").read_bytes() == log
  assert set((tmp_path / "tb").iterdir()) == boards


def test_a_restored_state_lives_on_the_device(tmp_path):
  run(tmp_path)
  again = run(tmp_path)
  assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(again))


def test_the_fresh_state_makes_room_for_the_restored_one(tmp_path, monkeypatch):
  run(tmp_path, steps=2)
  fresh, gone = [], []
  restore = loop.Checkpoints.restore

  def restoring(self, state):
    gone.extend(x.is_deleted() for x in jax.tree.leaves(fresh.pop()))
    return restore(self, state)

  monkeypatch.setitem(
    globals(), "init_state", lambda *a: fresh.append(init(*a)) or fresh[-1]
  )
  init = step_lib.init_state
  monkeypatch.setattr(loop.Checkpoints, "restore", restoring)
  run(tmp_path)
  assert gone and all(gone)


def test_resuming_compiles_nothing_anew(tmp_path):
  run(tmp_path / "first")
  counter = CompileCounter()
  with pytest.raises(Killed):
    run(tmp_path / "second", kill=("inputs", 4))
  run(tmp_path / "second")
  assert counter.count == 0


def test_another_identity_is_refused_and_nothing_is_lost(tmp_path):
  run(tmp_path)
  before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
  with pytest.raises(ValueError, match="model 'regression', expected 'other'"):
    run(tmp_path, identity={"model": "other"})
  after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
  assert before == after


def test_a_second_start_is_refused_and_the_first_keeps_its_log(
  tmp_path, undisturbed, monkeypatch
):
  """Refused before it touches anything, at whatever moment it comes."""
  refused = []

  def batch_and_start(number, *arguments):
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.jsonl")}
    with pytest.raises(lock.HeldError, match=f"{tmp_path} is in use") as error:
      run(tmp_path)
    refused.append(str(error.value))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.jsonl")} == before
    return first(number, *arguments)

  first = batch
  monkeypatch.setitem(globals(), "batch", batch_and_start)
  final = run(tmp_path)
  assert len(refused) == STEPS and "process" in refused[0]
  assert bits(final) == undisturbed[0]
  assert records(tmp_path) == undisturbed[1]
  assert not list(tmp_path.rglob(".lock-*"))


def test_a_run_that_lost_its_folder_stops(tmp_path, monkeypatch):
  def lost(self):
    raise lock.HeldError("not this process's any more")

  monkeypatch.setattr(lock.Lock, "check", lost)
  with pytest.raises(lock.HeldError, match="not this process's"):
    run(tmp_path)
  assert [r["step"] for r in records(tmp_path)] == [0]


def test_the_other_processes_learn_of_the_refusal(tmp_path, monkeypatch):
  monkeypatch.setattr(occupancy.distributed, "is_writer", lambda: False)
  told = ["in use by process 7", None]
  monkeypatch.setattr(
    occupancy.distributed, "from_writer", lambda value: told.pop(0)
  )
  with pytest.raises(lock.HeldError, match="process 7"):
    with occupancy.occupied(tmp_path):
      pass
  with occupancy.occupied(tmp_path) as held:
    assert held is None
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kill", [None, ("inputs", 2), ("evaluate", 4)])
def test_a_lengthened_run_is_the_one_that_was_planned_so(
  tmp_path, undisturbed, kill
):
  """Ended at step 4 or on the way there, then asked for all steps."""
  with contextlib.suppress(Killed):
    run(tmp_path, steps=4, save=1, kill=kill)
  final = run(tmp_path, save=1)
  assert bits(final) == undisturbed[0]
  found = records(tmp_path)
  if kill is None:  # the old end's evaluation stays
    assert found[4].pop("eval/size") > 0
  assert found == undisturbed[1]


def test_a_run_is_not_shortened(tmp_path):
  run(tmp_path)
  before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
  with pytest.raises(
    ValueError, match="to step 6, and run is to end at step 4"
  ):
    run(tmp_path, steps=4)
  after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
  assert before == after


def test_an_empty_identity_is_refused(tmp_path):
  with pytest.raises(ValueError, match="identity is empty"):
    run(tmp_path / "new", identity={})
  assert not (tmp_path / "new").exists()


def test_bad_steps_are_counted_skipped_and_resumed(tmp_path):
  whole = run(tmp_path / "whole", bad=(1, 2, 4))
  with pytest.raises(Killed):
    run(tmp_path / "cut", bad=(1, 2, 4), kill=("inputs", 3))
  again = run(tmp_path / "cut", bad=(1, 2, 4))
  assert bits(again) == bits(whole)
  found = records(tmp_path / "cut")
  assert [r["guard/skipped"] for r in found[1:]] == [0, 1, 2, 2, 3, 3]
  assert [r["guard/skipped_in_row"] for r in found[1:]] == [0, 1, 2, 0, 1, 0]
  assert np.isnan(found[2]["loss/total"])
  assert str(found) == str(records(tmp_path / "whole"))  # NaN ≠ NaN


def test_too_many_bad_steps_in_a_row_abort_with_their_range(tmp_path):
  with pytest.raises(RuntimeError, match="3 steps in a row, 3 to 5,"):
    run(tmp_path, bad=(0, 2, 3, 4, 5), abort=3, save=1)
  # What was written stays, up to the step before.
  assert [r["step"] for r in records(tmp_path)] == [0, 1, 2, 3, 4]
  with pytest.raises(RuntimeError, match="3 steps in a row, 3 to 5,"):
    run(tmp_path, bad=(0, 2, 3, 4, 5), abort=3, save=1)


def test_the_counter_sees_a_new_shape_and_no_old_one():
  double = jax.jit(lambda x: 2 * x + 1)
  small, large = np.ones(3, np.float32), np.ones(5, np.float32)
  double(small)
  counter = CompileCounter()
  double(small)
  assert counter.count == 0
  double(large)
  assert counter.count == 1


def test_compiles_stay_constant_after_the_first_step(tmp_path):
  run(tmp_path)
  counts = [
    r["time/compiles"]
    for r in journal.read(tmp_path / "metrics.jsonl")
    if "time/compiles" in r
  ]
  assert len(counts) == STEPS and len(set(counts)) == 1
