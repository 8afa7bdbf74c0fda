"""A command in the process of the tests, with flags of its own."""

import importlib
import sys

import pytest
from absl import flags


@pytest.fixture(scope="module")
def command(request):
  """Returns the command's module that the test module names in COMMAND.

  Commands define flags while they are imported, and no process has two of
  them. So flags of others are put aside until the module's tests are over.
  """
  found = flags.FLAGS
  aside = {name: found[name] for name in found if _is_a_commands(name)}
  for name in aside:
    delattr(found, name)
  name = f"jaxvlm.tools.{request.module.COMMAND}"
  sys.modules.pop(name, None)
  yield importlib.import_module(name)
  for own in [name for name in found if _is_a_commands(name)]:
    delattr(found, own)
  for other, flag in aside.items():
    found[other] = flag


def _is_a_commands(flag: str) -> bool:
  module = flags.FLAGS.find_module_defining_flag(flag)
  # A flag that was put back has lost its module.
  return module is None or module.startswith(("jaxvlm.", "experiments."))
