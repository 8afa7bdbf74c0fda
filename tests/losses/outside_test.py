"""The losses as a guest in other people's code."""

import pathlib
import subprocess
import sys

import pytest

from tests import compiling

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"

FRESH = """
import time, sys
import jax, jax.numpy, jax.nn
before = set(sys.modules)
start = time.process_time()
from jaxvlm.losses import cw_dpo_loss
import jaxvlm.tokenstats
print(time.process_time() - start)
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""


def run(*command):
  result = subprocess.run(
    [sys.executable, *command],
    env=compiling.environment(JAX_PLATFORMS="cpu"),
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr[-3000:]
  return result.stdout


def test_import_brings_jax_and_nothing_else_in_under_a_second():
  seconds, modules = run("-c", FRESH).splitlines()
  assert float(seconds) < 1.0
  heavy = {"flax", "transformers", "grain", "absl", "orbax", "optax", "torch"}
  assert not heavy & set(modules.split())


# A process and a compilation each: one that needs no other library, the rest in
# the slow suite.
@pytest.mark.parametrize(
  "name",
  [
    pytest.param(
      path.name, marks=() if "optax" in path.name else pytest.mark.slow
    )
    for path in sorted(EXAMPLES.glob("*loss*.py"))
  ],
)
def test_example_runs(name):
  if name == "losses_with_equinox.py":
    pytest.importorskip(
      "equinox", reason="this example needs equinox: pip install equinox"
    )
  assert "loss fell" in run(str(EXAMPLES / name))
