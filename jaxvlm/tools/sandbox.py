"""What the sandbox guarantees on this machine; runs a program with its tests.

--check tries what a program must not be able to do, at both levels. --program
and --tests run one program, as a reward would.
"""

import pathlib
import time

from absl import flags

from jaxvlm import config as configs
from jaxvlm import program
from jaxvlm.rewards.code import Level, Limits, Sandbox, Tests, Unavailable
from jaxvlm.rewards.code.probes import probe

_CHECK = flags.DEFINE_bool("check", False, "say what is guaranteed here")
_LEVEL = flags.DEFINE_enum_class(
  "sandbox", Level.NAMESPACES, Level, "namespaces, or rlimits, which is weaker"
)
_PROGRAM = configs.define_path("program", "", "file of a program")
_TESTS = configs.define_path("tests", "", "file of its unit tests")
_ENTRY = flags.DEFINE_string(
  "entry_point", "", "function under test, for tests of the form check(f)"
)
_TIMEOUT = flags.DEFINE_float("timeout_s", Limits.timeout_s, "seconds")
_MEMORY = flags.DEFINE_integer("memory_mb", Limits.memory_mb, "MiB")
_SPEED = 40  # programs that are timed


def main() -> None:
  if _CHECK.value:
    for level in Level:
      _check(level)
    return
  if not (_PROGRAM.value and _TESTS.value):
    raise ValueError(
      "nothing to do: expected --check, or --program=… and --tests=…"
    )
  source, tests = (
    pathlib.Path(flag.value).read_text() for flag in (_PROGRAM, _TESTS)
  )
  with _open(_LEVEL.value, workers=1) as sandbox:
    (found,) = sandbox.run([(source, Tests(tests, _ENTRY.value))])
  detail = f": {found.detail}" if found.detail else ""
  weaker = " (weaker: the program shared its tests' process)"
  print(f"{found.outcome.value}{detail}{weaker if found.weaker else ''}")


def _open(level: Level, workers: int | None = None) -> Sandbox:
  return Sandbox(
    level=level,
    workers=workers,
    timeout_s=_TIMEOUT.value,
    memory_mb=_MEMORY.value,
  )


def _check(level: Level) -> None:
  try:
    sandbox = _open(level)
  except Unavailable as error:
    print(f"{level.value}: not available. {error}\n")
    return
  with sandbox:
    promises = probe(sandbox)
    speed = _speed(sandbox)
    walls = [name for name, there in sandbox.walls.items() if there]
  print(f"{level.value}, with {' and '.join(walls) or 'nothing'} besides:")
  for promise in promises:
    print(f"  {'held' if promise.held else 'NOT HELD':10s}{promise.text}")
  print(f"  {speed:.0f} programs a second\n")


def _speed(sandbox: Sandbox) -> float:
  jobs = [
    (f"def f(x):\n  return x + {i}", f"assert f(1) == {1 + i}")
    for i in range(_SPEED)
  ]
  start = time.perf_counter()
  sandbox.run(jobs)
  return _SPEED / (time.perf_counter() - start)


def run() -> None:
  program.run(main, "jaxvlm sandbox")
