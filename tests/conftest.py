"""Settings of every test: CPU, strict shapes, exact products; what it costs."""

import gc
import os
import resource

# Before jax is imported anywhere: libtpu, where it is installed for
# ahead-of-time compilation, must not look for chips.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
import jax
import pytest

from tests import compiling

# Read when the first client is made, and gone before libtpu looks.
with pytest.MonkeyPatch.context() as patch:
  patch.setenv("XLA_FLAGS", compiling.environment()["XLA_FLAGS"])
  jax.devices()
jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture(autouse=True, scope="module")
def _programs_of_one_module():
  """Drops a module's compiled programs: kept, they add up to gigabytes."""
  yield
  jax.clear_caches()
  gc.collect()


def cost() -> str:
  """Returns peak memory and CPU time of this process and its children."""
  own, children = map(
    resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  )
  seconds = [usage.ru_utime + usage.ru_stime for usage in (own, children)]
  peak = own.ru_maxrss / 2**20  # Linux counts KiB, macOS bytes
  return (
    f"peak {peak:.2f} GiB, CPU {seconds[0]:.0f} s"
    f" and {seconds[1]:.0f} s of children"
  )


def pytest_sessionfinish(session):
  if hasattr(session.config, "workeroutput"):  # of pytest-xdist
    session.config.workeroutput["cost"] = cost()


def pytest_testnodedown(node, error):
  costs = node.config.stash.setdefault(COSTS, [])
  costs.append(f"{node.gateway.id}: {node.workeroutput.get('cost', error)}")


def pytest_terminal_summary(terminalreporter, config):
  """One line a worker: `make test` has bounds of memory and time."""
  for line in config.stash.get(COSTS, [cost()]):
    terminalreporter.line(line)


COSTS = pytest.StashKey[list]()
