"""Real processes on one machine: one program, one loss curve, one end."""

import json

import numpy as np
import pytest

from jaxvlm import distributed, journal
from jaxvlm.distributed import DistributedConfig
from jaxvlm.train import manifest, preemption
from tests.train import runs

TIMEOUT_S = 10  # of the silent, in these tests
STEPS = 8


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
  nursery = runs.Nursery(tmp_path_factory.mktemp("cache"))
  yield nursery
  nursery.close()


def finished(reply: dict) -> str:
  """Returns the digest that all processes of a finished run have."""
  assert set(reply["codes"]) == {0}, reply["outputs"]
  digests = {out.split("digest ")[1].strip() for out in reply["outputs"]}
  assert len(digests) == 1
  return digests.pop()


def curves(folder) -> dict[str, list[float]]:
  found = journal.read(folder / "metrics.jsonl")
  assert [r["step"] for r in found] == list(range(STEPS + 1))
  return {
    key: [r[key] for r in found[1:]]
    for key in found[-1]
    if key.startswith(("loss/", "reward/", "batch/", "grad/", "policy/entropy"))
  }


@pytest.fixture(scope="module")
def whole(nursery, tmp_path_factory):
  """(folder, digest) of an undisturbed run of two processes."""
  folder = tmp_path_factory.mktemp("whole")
  reply = nursery("grpo", folder, processes=2, steps=STEPS)
  return folder, finished(reply)


def assert_same_curves(kind, one, many):
  one, many = curves(one), curves(many)
  assert one.keys() == many.keys() and "loss/total" in one
  for key in one:
    # An advantage-weighted mean is a small difference of large terms.
    atol = 1e-6 if kind == "grpo" else 0
    np.testing.assert_allclose(many[key], one[key], rtol=1e-5, atol=atol)


def test_two_processes_have_the_curves_of_one(nursery, tmp_path, whole):
  finished(nursery("grpo", tmp_path, steps=STEPS))
  assert_same_curves("grpo", tmp_path, whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", runs.KINDS)
@pytest.mark.parametrize("processes", [2, 4])
def test_more_processes_have_the_curves_of_one(
  nursery, tmp_path, kind, processes
):
  for n in (1, processes):
    finished(nursery(kind, tmp_path / str(n), processes=n, steps=STEPS))
  assert_same_curves(kind, tmp_path / "1", tmp_path / str(processes))


def hurt(process, step, signal):
  return {
    "timeout_s": TIMEOUT_S,
    # One that was stopped is waited for, and for long enough only.
    **({"limit_s": 120} if signal == 19 else {}),
    "hurt": {
      "process": process,
      "moment": "inputs",
      "step": step,
      "signal": signal,
    },
  }


@pytest.mark.slow
def test_a_cluster_survives_a_notice_and_a_kill(nursery, tmp_path, whole):
  """The notice reaches one process, the kill another; nothing is lost."""
  job = {"processes": 2, "steps": STEPS}
  reply = nursery("grpo", tmp_path, **job, **hurt(1, 2, 15))
  assert reply["codes"] == [preemption.EXIT_CODE] * 2, reply["outputs"]
  # Noticed while step 3 was prepared, saved after it, by both.
  assert manifest.steps(tmp_path / "checkpoints")[-1] == 3
  reply = nursery("grpo", tmp_path, **job, **hurt(1, 6, 9))
  assert reply["codes"][1] == -9
  assert_stopped(reply, 0, after=reply["times"][1])
  assert finished(nursery("grpo", tmp_path, **job)) == whole[1]
  assert runs.records(tmp_path) == runs.records(whole[0])


def assert_stopped(reply, process, after):
  """In time, with a message; JAX ends a process where it cannot raise."""
  assert reply["codes"][process] in (distributed.PEER_LOST, -6)
  # Hung would be for good; on busy cores the news take their time.
  assert reply["times"][process] - after < 6 * TIMEOUT_S
  told = reply["outputs"][process]
  assert "another process died" in told or "another task died" in told


@pytest.mark.slow
@pytest.mark.parametrize(
  "processes,process,signal",
  [(2, 0, 9), (4, 2, 9), (2, 1, 19), (2, 0, "error")],
)
def test_whoever_is_lost_all_stop_and_can_resume(
  nursery, tmp_path, processes, process, signal
):
  """Killed, stopped without a word, or ended by an error of its own."""
  job = {"processes": processes, "steps": STEPS}
  whole = finished(nursery("sft", tmp_path / "whole", **job))
  folder = tmp_path / "hurt"
  reply = nursery("sft", folder, **job, **hurt(process, 5, signal))
  # The one that was stopped is ended by the harness, long after.
  assert (reply["codes"][process] == "stuck") == (signal == 19)
  if signal == "error":
    told = reply["outputs"][process]
    assert "No space left" in told and "process 0 of 2 stops" in told
  for i in set(range(processes)) - {process}:
    when = reply["times"][i] if signal == 19 else reply["times"][process]
    assert_stopped(reply, i, when)
  assert finished(nursery("sft", folder, **job)) == whole


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices_and_processes(nursery, tmp_path):
  """Two processes, eight devices in two layouts, four processes, one."""
  finished(nursery("grpo", tmp_path / "one", steps=STEPS))
  folder = tmp_path / "moved"
  for steps, layout in [
    (2, {"processes": 2}),
    (3, {"axes": {"data": 2, "fsdp": 2, "tensor": 2}}),
    (4, {"axes": {"data": 1, "fsdp": 4, "tensor": 2}}),
    (6, {"processes": 4}),
    (STEPS, {}),
  ]:
    finished(nursery("grpo", folder, steps=steps, evaluate_every=0, **layout))
  one, moved = (
    journal.read(d / "metrics.jsonl") for d in (tmp_path / "one", folder)
  )
  for a, b in zip(one[1:], moved, strict=True):
    assert a["step"] == b["step"]
    assert b["loss/total"] == pytest.approx(a["loss/total"], rel=1e-5, abs=1e-6)
    assert b["grad/norm"] == pytest.approx(a["grad/norm"], rel=1e-4)


def test_flags_that_contradict_each_other_are_refused():
  address = "host:1234"
  for config, message in [
    (DistributedConfig(timeout_s=0), "timeout_s is 0"),
    (DistributedConfig(auto=True, process_count=2), "give one or the other"),
    (DistributedConfig(process_count=2), "expected host:port"),
    (DistributedConfig(False, "host", 2, 0), "'host', expected host:port"),
    (
      DistributedConfig(False, address, 2, 2),
      "process_id is 2, expected 0 … 1",
    ),
    (DistributedConfig(False, address), "for one process, expected none"),
    (DistributedConfig(process_count=0), "process_id is 0"),
  ]:
    with pytest.raises(ValueError, match=message):
      distributed.check(config)
  for config in (
    DistributedConfig(),
    DistributedConfig(auto=True, timeout_s=30),
    DistributedConfig(False, address, 2, 1),
  ):
    distributed.check(config)


def test_alone_everybody_agrees():
  with distributed.session(DistributedConfig()):
    assert distributed.is_writer()
    assert distributed.any_process(True) and not distributed.any_process(False)
    assert distributed.from_writer({"a": [1]}) == {"a": [1]}
    distributed.agree("anything", "value")
    distributed.barrier("alone")
    tree = {"x": np.arange(3), "n": 4}
    assert json.dumps(distributed.gather(tree)["n"]) == "4"


def test_a_coordinator_that_does_not_answer_is_named():
  config = DistributedConfig(False, "localhost:1", 2, 1, timeout_s=1)
  with pytest.raises(
    distributed.PeerError, match="localhost:1 does not answer"
  ):
    with distributed.session(config):
      raise AssertionError("came in")
