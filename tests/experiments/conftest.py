"""The study's command, in a process of its own, and what it reads.

Every run is forked from a process that has imported the program but started no
device, so that a kill is a kill and costs little.
"""

import itertools
import multiprocessing
from multiprocessing import forkserver

import pytest

from tests import compiling
from tests.data import pack
from tests.experiments import stage1_command
from tests.experiments.stage1_folders import folders


@pytest.fixture(scope="module")
def start(tmp_path_factory):
  """Returns a function that starts the command: arguments -> process."""
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload(
    [
      "experiments.stage1_entropy.run",
      "transformers.models.auto",
      stage1_command.__name__,
    ]
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XLA_FLAGS", compiling.environment()["XLA_FLAGS"])
    forkserver.ensure_running()
  logs, count = tmp_path_factory.mktemp("logs"), itertools.count()

  def begin(*arguments):
    log = logs / f"{next(count)}.txt"
    process = context.Process(
      target=stage1_command.command, args=(arguments, str(log))
    )
    process.log = log
    process.start()
    return process

  return begin


@pytest.fixture(scope="module")
def finish(start):
  """Returns a function that runs the command: arguments -> (code, output)."""

  def complete(*arguments):
    process = start(*arguments)
    process.join(stage1_command.HANGS_S)
    if process.is_alive():
      process.kill()
      process.join()
    return process.exitcode, process.log.read_text()

  return complete


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
  """Of the pack where it is, else of its stand-in."""
  return folders(tmp_path_factory.mktemp("pictures"), pack.SHARED)
