"""What the sandbox guarantees on this machine; runs a program with its tests.

--check tries what a program must not be able to do, at both levels. --program
and --tests run one program, as a reward would.
"""

import pathlib
import time
from typing import NamedTuple

from absl import flags

from jaxvlm import bars, program
from jaxvlm import config as configs
from jaxvlm.rewards.code import Level, Limits, Sandbox, Tests, Unavailable
from jaxvlm.rewards.code.probes import Promise, probe
from jaxvlm.tools import output

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
_JSON = output.define_json()
_SPEED = 40  # programs that are timed


def main() -> None:
  if _CHECK.value:
    found = [_check(level) for level in bars.bar(Level, "levels", leave=False)]
    if output.in_words(_JSON):
      print("\n".join(map(_in_words, found)))
    output.write(_JSON, found)
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
  output.write(_JSON, found)
  if output.in_words(_JSON):
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


class Checked(NamedTuple):
  """What a level guarantees here.

  Attributes:
    level: which.
    unavailable: why there is no such sandbox; "" where there is one.
    walls: what stands besides.
    promises: what was tried.
    speed: programs a second.
  """

  level: Level
  unavailable: str = ""
  walls: tuple[str, ...] = ()
  promises: tuple[Promise, ...] = ()
  speed: float = 0.0


def _check(level: Level) -> Checked:
  try:
    sandbox = _open(level)
  except Unavailable as error:
    return Checked(level, str(error))
  with sandbox:
    promises = tuple(probe(sandbox))
    speed = _speed(sandbox)
    walls = tuple(name for name, there in sandbox.walls.items() if there)
  return Checked(level, "", walls, promises, speed)


def _in_words(found: Checked) -> str:
  name = found.level.value
  if found.unavailable:
    return f"{name}: not available. {found.unavailable}\n"
  lines = [f"{name}, with {' and '.join(found.walls) or 'nothing'} besides:"]
  lines += [
    f"  {'held' if promise.held else 'NOT HELD':10s}{promise.text}"
    for promise in found.promises
  ]
  return "\n".join([*lines, f"  {found.speed:.0f} programs a second\n"])


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
