"""`jaxvlm plan`, as a person types it; what is wrong is said at once."""

import subprocess
import sys

import pytest


def _plan(*args):
  return subprocess.run(
    [sys.executable, "-m", "jaxvlm.tools.main", "plan", *args],
    capture_output=True,
    text=True,
    timeout=600,
  )


@pytest.mark.parametrize(
  "flags,words",
  [
    (["--topology=v5e:3x5"], ["v5e:3x5", "whole hosts"]),
    (["--prompts=63"], ["63 prompts", "64 devices"]),
    (["--objective=opd"], ["without a teacher"]),
  ],
)
def test_mistakes_end_in_one_line(flags, words):
  pytest.importorskip("libtpu")
  done = _plan(*flags)
  assert done.returncode == 1
  assert done.stdout == ""
  last = done.stderr.strip().splitlines()[-1]
  assert last.startswith("jaxvlm plan: ")
  assert all(word in last for word in words), last
  assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_cell_is_printed_and_stored(tmp_path):
  pytest.importorskip("libtpu")
  file = tmp_path / "cell.json"
  done = _plan(
    "--model=3b",
    "--layers=1",
    "--topology=v5e:2x2",
    "--prompts=4",
    "--patches=0",
    "--prompt_tokens=128",
    "--completion_tokens=128",
    f"--json={file}",
  )
  assert done.returncode == 0, done.stderr
  for column in ("memory per chip", "peak", "collectives", "bound", "checks"):
    assert column in done.stdout
  assert '"fits": true' in file.read_text()
  # libtpu's pages about missing TPU hosts are not the user's business.
  assert len(done.stderr.splitlines()) <= 2, done.stderr
