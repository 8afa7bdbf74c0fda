"""SIGTERM, bad disks and bad batches: the loop ends safely and says why."""

import errno
import json
import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import journal
from jaxvlm.train import loop, manifest, preemption
from jaxvlm.train.checkpoint import Checkpoints
from jaxvlm.train.optimizer import OptimizerConfig, make_optimizer
from jaxvlm.train.step import init_state, make_train_step

STEPS = 6
OPTIMIZER = make_optimizer(OptimizerConfig(1e-1, warmup_steps=2))


def objective(params, frozen, batch, total):
  return jnp.sum((batch @ params["w"] - 1) ** 2) / total, {}


STEP = make_train_step(objective, lambda x: jnp.float32(len(x)), OPTIMIZER)


@pytest.fixture(autouse=True)
def restored_handler():
  before = signal.getsignal(signal.SIGTERM)
  yield
  signal.signal(signal.SIGTERM, before)


def run(folder, at=lambda moment, step: None, *, bad=(), **schedule):
  def inputs(step, params, carry):
    at("inputs", step)
    x = np.random.default_rng(step).normal(size=(4, 3)).astype(np.float32)
    return (x * np.nan if step in bad else x), carry, {}

  def evaluate(step, params):
    at("evaluate", step)
    return {"eval/score": float(np.abs(np.asarray(params["w"])).sum())}

  options = {"evaluate_every": 3, "checkpoint_every": 4, **schedule}
  return loop.run(
    folder,
    "run",
    init_state({"w": jnp.array([1.0, -2.0, 0.5])}, OPTIMIZER),
    STEP,
    None,
    lambda start: inputs,
    loop.Schedule(STEPS, **options),
    identity={"run": "x"},
    evaluate=evaluate,
    row_ids=lambda step: (f"row {step}-0", f"row {step}-1"),
    score=lambda record: record.get("eval/score"),
  )


def result(folder, state):
  records = [
    {k: v for k, v in r.items() if not k.startswith("time/")}
    for r in journal.read(folder / "metrics.jsonl")
  ]
  return [np.asarray(x).tobytes() for x in jax.tree.leaves(state)], str(records)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  folder = tmp_path_factory.mktemp("undisturbed")
  return result(folder, run(folder))


def terminate(*moments, times=1):
  """Returns a hook that sends SIGTERM at each of the moments, once."""
  left = set(moments)

  def at(moment, step):
    if (moment, step) in left:
      left.remove((moment, step))
      for _ in range(times):
        os.kill(os.getpid(), signal.SIGTERM)

  return at


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
  "moment,saved",
  [
    (("inputs", 0), 1),
    (("inputs", 1), 2),
    (("inputs", 2), 3),  # where an evaluation is due: the next start makes it
    (("evaluate", 3), 4),
    (("inputs", 5), 6),
    (("evaluate", 6), 6),
  ],
)
def test_a_notice_saves_the_step_and_leaves_with_the_code(
  tmp_path, undisturbed, caplog, moment, saved, times
):
  with pytest.raises(SystemExit) as caught:
    run(tmp_path, terminate(moment, times=times))
  assert caught.value.code == preemption.EXIT_CODE == 75
  assert manifest.steps(tmp_path / "checkpoints")[-1] == saved
  assert [r.getMessage() for r in caplog.records] == [
    f"run: told to end; step {saved} of 6 is saved, the same command resumes"
    " from there"
  ]
  assert result(tmp_path, run(tmp_path)) == undisturbed


@pytest.fixture
def interruptible():
  """Ctrl-C as in a foreground process; a shell's background ignores it."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
  "step,note",
  [
    (2, "run: interrupted; no step is saved yet, the same command begins it"),
    (
      5,
      "run: interrupted; step 4 of 6 is saved, the same command resumes from"
      " there",
    ),
  ],
)
def test_an_interrupt_says_what_is_saved(
  tmp_path, undisturbed, step, note, interruptible
):
  def interrupt(moment, number):
    if (moment, number) == ("inputs", step):
      signal.raise_signal(signal.SIGINT)

  with pytest.raises(KeyboardInterrupt) as caught:
    run(tmp_path, interrupt)
  assert caught.value.__notes__ == [note]
  assert result(tmp_path, run(tmp_path)) == undisturbed


def test_a_program_that_is_interrupted_ends_in_one_line(capsys):
  noted = KeyboardInterrupt()
  noted.add_note("run: step 4 is saved")
  for error, line in (
    (noted, "run: step 4 is saved"),
    (
      KeyboardInterrupt(),
      "interrupted; step 2 is saved, the same command resumes from there",
    ),
  ):
    with (
      pytest.raises(SystemExit) as caught,
      preemption.announced(lambda: "step 2 is saved"),
    ):
      raise error
    assert caught.value.code == preemption.INTERRUPTED == 130
    assert caught.value.__suppress_context__
    assert capsys.readouterr().err == f"\n{line}\n"


def test_a_program_that_is_told_to_end_between_loops_says_so(capsys):
  before = signal.getsignal(signal.SIGTERM)
  with (
    pytest.raises(SystemExit) as caught,
    preemption.announced(lambda: "step 2 of a is saved"),
  ):
    signal.raise_signal(signal.SIGTERM)
  assert caught.value.code == preemption.EXIT_CODE
  assert capsys.readouterr().err == (
    "told to end; step 2 of a is saved, the same command resumes from there\n"
  )
  assert signal.getsignal(signal.SIGTERM) is before


def test_within_a_loop_the_notice_is_the_loops(tmp_path, capsys):
  with (
    pytest.raises(SystemExit),
    preemption.announced(lambda: "asked between loops"),
  ):
    run(tmp_path, terminate(("inputs", 1)))
  assert manifest.steps(tmp_path / "checkpoints") == [2]
  assert "between loops" not in capsys.readouterr().err


@pytest.mark.parametrize("step,again", [(2, 3), (5, None)])
def test_an_evaluation_left_to_the_next_start_may_be_made_twice(
  tmp_path, undisturbed, step, again
):
  """The next start logs it and is killed before it saves, or was the last."""

  class Killed(BaseException):
    pass

  def kill(moment, number):
    if (moment, number) == ("inputs", again):
      raise Killed

  with pytest.raises(SystemExit):
    run(tmp_path, terminate(("inputs", step)))
  if again is None:
    run(tmp_path)
  else:
    with pytest.raises(Killed):
      run(tmp_path, kill)
  log = journal.read(tmp_path / "metrics.jsonl")
  assert log[-1]["step"] == step + 1 and "eval/score" in log[-1]
  assert result(tmp_path, run(tmp_path)) == undisturbed


def test_an_evaluation_left_to_the_next_start_ranks_its_checkpoint(tmp_path):
  def scores(name):
    folder = tmp_path / name / "checkpoints"
    return {
      n: manifest.read(folder, n)["score"] for n in manifest.steps(folder)
    }

  options = {"checkpoint_every": 3, "keep": 8}
  run(tmp_path / "whole", **options)
  with pytest.raises(SystemExit):
    run(tmp_path / "noticed", terminate(("inputs", 2)), **options)
  assert scores("noticed") == {3: None}
  run(tmp_path / "noticed", **options)
  assert scores("noticed") == scores("whole")
  assert all(scores("whole").values())


def test_every_step_may_be_the_last(tmp_path, undisturbed):
  for step in range(STEPS):
    with pytest.raises(SystemExit):
      run(tmp_path, terminate(("inputs", step)))
    assert manifest.steps(tmp_path / "checkpoints")[-1] == step + 1
  assert result(tmp_path, run(tmp_path)) == undisturbed


def test_a_notice_during_a_save_does_not_tear_it(
  tmp_path, undisturbed, monkeypatch
):
  write = manifest.write

  def disturbed(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    write(*arguments)

  with monkeypatch.context() as patched:
    patched.setattr(manifest, "write", disturbed)
    with pytest.raises(SystemExit):
      run(tmp_path, checkpoint_every=2)
  found = manifest.steps(tmp_path / "checkpoints")
  assert (
    found
    and found
    == Checkpoints(tmp_path / "checkpoints", identity={"run": "x"}).steps()
  )
  assert result(tmp_path, run(tmp_path)) == undisturbed


def test_the_handler_is_given_back_and_threads_do_without(tmp_path):
  before = signal.getsignal(signal.SIGTERM)
  run(tmp_path / "a")
  assert signal.getsignal(signal.SIGTERM) is before
  thread = threading.Thread(target=run, args=(tmp_path / "b",))
  thread.start()
  thread.join()
  assert manifest.steps(tmp_path / "b" / "checkpoints")[-1] == STEPS


def test_a_disk_that_fills_stops_the_run_and_the_last_checkpoint_stays(
  tmp_path, undisturbed, monkeypatch
):
  write = manifest.write

  def full(folder, step, body):
    if step > 2:
      raise OSError(errno.ENOSPC, "No space left on device")
    write(folder, step, body)

  with monkeypatch.context() as patched:
    patched.setattr(manifest, "write", full)
    with pytest.raises(OSError, match="could not save step 4.*No space") as e:
      run(tmp_path, checkpoint_every=2)
  assert "whole checkpoints in it: [2]" in str(e.value)
  assert result(tmp_path, run(tmp_path, checkpoint_every=2)) == undisturbed


def test_a_log_that_cannot_grow_stops_the_run(
  tmp_path, undisturbed, monkeypatch
):
  write = journal.Journal.write

  def full(self, step, values):
    if step == 5:
      raise OSError(errno.ENOSPC, "No space left on device")
    write(self, step, values)

  with monkeypatch.context() as patched:
    patched.setattr(journal.Journal, "write", full)
    with pytest.raises(OSError, match="No space left.*start the same") as e:
      run(tmp_path)
  assert e.value.errno == errno.ENOSPC and str(tmp_path) in str(e.value)
  assert manifest.steps(tmp_path / "checkpoints") == [4]
  assert result(tmp_path, run(tmp_path)) == undisturbed


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_step():
  def never(moment, step):
    raise AssertionError("a step was taken")

  with pytest.raises(OSError, match="/proc/jaxvlm: .*make the folder writable"):
    run("/proc/jaxvlm", never)


def test_the_rows_of_skipped_batches_are_filed(tmp_path):
  run(tmp_path / "whole", bad=(1, 4))
  found = [
    json.loads(line)
    for line in (tmp_path / "whole" / "skipped.jsonl").read_text().splitlines()
  ]
  assert [r["step"] for r in found] == [2, 5]
  assert found[1]["rows"] == ["row 4-0", "row 4-1"]
  assert found[0]["loss"] == found[0]["grad_norm"] == "nan"
  # Ended after step 4, resumed with a torn line and one of a later step.
  with pytest.raises(SystemExit):
    run(tmp_path / "cut", terminate(("inputs", 3)), bad=(1, 4))
  with (tmp_path / "cut" / "skipped.jsonl").open("a") as file:
    file.write('{"step": 5, "loss": 1.0, "rows": []}\n{"step": 6, "lo')
  run(tmp_path / "cut", bad=(1, 4))
  files = [tmp_path / name / "skipped.jsonl" for name in ("whole", "cut")]
  assert files[0].read_bytes() == files[1].read_bytes()


def test_the_abort_names_rows_and_file(tmp_path):
  with pytest.raises(RuntimeError, match="2 steps in a row, 2 to 3") as caught:
    run(tmp_path, bad=(1, 2), abort_after_skips=2)
  assert "skipped.jsonl" in str(caught.value)
  assert "row 2-0, row 2-1" in str(caught.value)
  assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 2


def test_the_best_checkpoint_is_kept_besides_the_newest(tmp_path):
  run(tmp_path, evaluate_every=1, checkpoint_every=1, keep=1, keep_best=1)
  found = journal.read(tmp_path / "metrics.jsonl")
  best = max(found[1:], key=lambda r: r["eval/score"])["step"]
  assert best < STEPS, "the newest is the best: this shows nothing"
  assert manifest.steps(tmp_path / "checkpoints") == [best, STEPS]
