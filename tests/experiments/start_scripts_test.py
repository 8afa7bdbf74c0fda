"""The start scripts: what they would run is run, as far as a dry run goes."""

import dataclasses
import os
import pathlib
import re
import shlex
import subprocess

import pytest
from absl import flags as absl_flags
from jax.sharding import AbstractMesh

from experiments.stage1_entropy.run import STUDY
from jaxvlm import config as configs
from jaxvlm.distributed import DistributedConfig
from jaxvlm.sharding import AXES
from jaxvlm.study import checks
from jaxvlm.study.main import settings_for

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = sorted(p.name for p in (ROOT / "scripts").glob("*.sh"))
# A command that writes down how it was called, and what it would answer.
STUB = """#!/usr/bin/env bash
printf '%q ' "$(basename "$0")" "$@" >> "$CALLS"
echo >> "$CALLS"
[[ "$*" == *queued-resources\\ describe* ]] && echo "${STATE:-}"
exit "${CODE:-0}"
"""


@pytest.fixture
def called(tmp_path):
  """Returns a function: script, variables -> commands it gave, as words."""
  for name in ("gcloud", "python"):
    (tmp_path / name).write_text(STUB)
    (tmp_path / name).chmod(0o755)
  calls = tmp_path / "calls"

  def run(script, *arguments, code=0, **variables):
    calls.write_text("")
    environment = {
      "PATH": f"{tmp_path}:{os.environ['PATH']}",
      "HOME": "/home/somebody",
      "CALLS": str(calls),
      "PYTHON": str(tmp_path / "python"),
      "PAUSE_S": "0",
      **variables,
    }
    done = subprocess.run(
      [ROOT / "scripts" / script, *arguments],
      env=environment,
      capture_output=True,
      text=True,
    )
    assert done.returncode == code, done.stderr
    return [shlex.split(line) for line in calls.read_text().splitlines()]

  return run


def study_flags(commands) -> list[str]:
  """Returns the flags of the study in what a script runs."""
  texts = [word for command in commands for word in command]
  remote = [t for t in texts if "worker.sh --" in t]
  if remote:
    (remote,) = remote
    return shlex.split(remote)[1:]
  (command,) = [c for c in commands if "experiments.stage1_entropy.run" in c]
  return command[command.index("experiments.stage1_entropy.run") + 1 :]


def test_every_script_is_covered():
  assert SCRIPTS == [
    "gpu.sh",
    "queued_resource.sh",
    "setup_worker.sh",
    "tpu_vm.sh",
    "worker.sh",
  ]


def test_a_queued_slice_is_given_what_a_slice_is(called):
  at_once = study_flags(called("tpu_vm.sh", BUCKET="b"))
  queued = {"BUCKET": "b", "SPOT": "1", "STATE": "ACTIVE"}
  assert study_flags(called("queued_resource.sh", **queued)) == at_once


@pytest.mark.slow
@pytest.mark.parametrize(
  "script,variables",
  [("tpu_vm.sh", {"BUCKET": "bucket"}), ("gpu.sh", {"DATA": "/data"})],
)
def test_every_flag_passes_a_dry_run(
  tmp_path, called, finish, pictures, script, variables
):
  flags = study_flags(called(script, **variables))
  given = {flag.split("=")[0] for flag in flags}
  assert {"--scale", "--model_dir", "--teacher_dir", "--workdir"} <= given
  assert all(re.fullmatch(r"--[a-z_0-9.]+(=\S+)?", flag) for flag in flags)
  # Only the folders are others; every flag stays as it is given.
  folders = [*pictures, f"--workdir={tmp_path / 'run'}"]
  code, output = finish(
    *flags, *folders, "--evaluation.in_domain=2", "--dry_run"
  )
  assert code == 0, output
  assert "usable" in output


def test_the_batches_spread_over_the_chips_of_the_slice(called):
  """A dry run has one device, so it cannot tell."""
  script = (ROOT / "scripts" / "tpu_vm.sh").read_text()
  chips = int(re.search(r"TYPE:-v5litepod-(\d+)", script)[1])
  words = ["study", *study_flags(called("tpu_vm.sh", BUCKET="bucket"))]
  default = settings_for(STUDY, words)
  values = absl_flags.FlagValues()
  configs.define_flags(default, values)
  values(words, known_only=True)
  config = configs.from_flags(default, values)
  tensor = config.mesh.tensor
  mesh = AbstractMesh((1, chips // tensor, tensor), AXES)
  assert mesh.size == chips and (config.mesh.data, config.mesh.fsdp) == (1, -1)
  checks.check_batches(config, mesh)
  odd = dataclasses.replace(
    config, opd=dataclasses.replace(config.opd, prompts=8)
  )
  with pytest.raises(ValueError, match="8 prompts does not divide over 16"):
    checks.check_batches(odd, mesh)


def test_the_flags_in_the_page_exist():
  page = (ROOT / "docs" / "pods-start.md").read_text()
  named = set(re.findall(r"--([a-z][a-z_.]+)", page))
  values = absl_flags.FlagValues()
  configs.define_flags(settings_for(STUDY, ["study", "--scale=pod"]), values)
  configs.define_flags(DistributedConfig(), values, "distributed")
  own = {"scale", "quick", "workdir", "dry_run", "plan"}
  # Of `jaxvlm export`; --mesh.* stands for all of them.
  own |= {"model_dir", "checkpoints", "step", "out", "mesh."}
  assert {"distributed.auto", "distributed.process_id", "workdir"} <= named
  assert named <= own | set(values)


def test_a_slice_that_will_not_come_is_not_waited_for(called):
  for state in ("FAILED", "SUSPENDED"):
    commands = called("queued_resource.sh", BUCKET="b", STATE=state, code=1)
    assert "delete" in [c[4] for c in commands]
    assert not any("scp" in c for c in commands)


def test_a_slice_is_made_filled_and_started_on_all_workers(called):
  commands = called("tpu_vm.sh", BUCKET="bucket")
  verbs = [c[4] for c in commands]
  assert verbs == ["describe", "scp", "ssh", "ssh"]
  for command in commands[1:]:
    assert "--worker=all" in command and command[0] == "gcloud"
  assert "--distributed.auto" in study_flags(commands)


def test_the_worker_starts_again_after_what_that_mends(called):
  for code in (75, 76, 134, 137, 143):
    commands = called("worker.sh", "--quick", CODE=str(code), code=code,
                      ATTEMPTS="3")  # fmt: skip
    assert commands == [commands[0]] * 3 and commands[0][-1] == "--quick"
  assert len(called("worker.sh", CODE="1", code=1)) == 1
  assert len(called("worker.sh")) == 1
