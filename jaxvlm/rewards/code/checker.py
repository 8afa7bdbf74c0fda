"""The process of the tests: it calls the program through a codec.

Values that are right live here and are compared here; the program runs in
another process and sends bytes.
"""

import builtins
import importlib
import json
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxvlm.rewards.code import allclose, codec, frames
from jaxvlm.rewards.code.candidate import NAME, load

_FILE = "<tests>"


class Found(NamedTuple):
  """What the tests found.

  Attributes:
    code: one letter: P passed, L the program did not load, W an assertion
      failed, R something raised, U a value could not be sent, N the program
      was never called, G the program is gone.
    line: of the tests, 0 where no line applies.
    name: of the exception, or of what could not be sent; "" where none.
  """

  code: str
  line: int = 0
  name: str = ""

  def pack(self) -> bytes:
    """Returns it as bytes, without any value of the tests."""
    name = self.name.encode("ascii", "replace").decode()[:80]
    return f"{self.code} {self.line} {name}".encode()

  @classmethod
  def unpack(cls, data: bytes) -> "Found":
    """Reads what `pack` wrote."""
    code, line, name = data.decode().split(" ", 2)
    return cls(code, int(line), name)


class _Raised(Exception):
  """The program raised an exception of its own."""


class _Gone(BaseException):
  """The program's process ended, or sent what no value is."""


class _Unsendable(BaseException):
  """The program returned what is no exact built-in value."""


class _Program:
  """The program as tests see it: every name is a function."""

  def __init__(self, channel: int):
    self._channel = channel
    self.calls = 0
    self.gone = False  # kept, for tests may catch whatever is raised

  def function(self, name: str) -> Callable[..., Any]:
    """Returns the function that calls the program's."""

    def function(*arguments, **keywords):
      self.calls += 1
      call = codec.encode((name, arguments, keywords))
      try:
        frames.send(self._channel, call)
      except frames.Closed as error:
        raise self._lost() from error
      return self.reply()

    return function

  def _lost(self) -> _Gone:
    self.gone = True
    return _Gone()

  def reply(self) -> Any:
    """Returns the value in the next frame, or raises what it reports."""
    try:
      frame = frames.receive(self._channel)
      if frame[:1] == b"V":
        return codec.decode(frame[1:])
    except (frames.Closed, codec.Malformed) as error:
      raise self._lost() from error
    text = frame[1:].decode("ascii", "replace")[:80]
    if frame[:1] == b"U":
      raise _Unsendable(text)
    kind = getattr(builtins, text, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
      raise kind
    raise _Raised(text)


def check(tests: bytes, channel: int) -> Found:
  """Runs tests against the program at the other end of a socket.

  Args:
    tests: JSON, as `suite.Tests.pack` writes it.
    channel: socket to the program's process.
  """
  program = _Program(channel)
  try:
    program.reply()
  except _Gone:
    return Found("G")
  except BaseException as error:
    return Found("L", 0, _name_of(error))
  given = json.loads(tests)
  names = {name: program.function(name) for name in given["names"]}
  sys.modules[NAME] = _module(names)
  sys.modules["numpy"] = allclose.module()
  names |= {name: importlib.import_module(name) for name in given["modules"]}
  found = judge(given["source"], names, given["entry_point"])
  if found.code == "P" and program.gone:
    return Found("G")
  if found.code == "P" and not program.calls:
    return Found("N")
  return found


def judge(source: str, names: dict[str, Any], entry_point: str) -> Found:
  """Runs the source of tests and all test functions in it.

  Args:
    source: Python.
    names: what the tests can use of the program.
    entry_point: name of what `check` is called with, "" without such.
  """
  space = {"__name__": "tests", **names}
  try:
    exec(compile(source, _FILE, "exec"), space)
    if entry_point and _is_own(space.get("check")):
      space["check"](names[entry_point])
    for test in _functions(space):
      test()
  except AssertionError as error:
    return Found("W", _line_of(error))
  except _Unsendable as error:
    return Found("U", _line_of(error), str(error))
  except _Gone as error:
    return Found("G", _line_of(error))
  except BaseException as error:
    return Found("R", _line_of(error), _name_of(error))
  return Found("P")


def judge_inside(program: bytes, tests: bytes) -> Found:
  """Runs program and tests in one process, which the program can deceive."""
  given = json.loads(tests)
  try:
    space = load(program.decode()).__dict__
  except BaseException as error:
    return Found("L", 0, _name_of(error))
  return judge(given["source"], space, given["entry_point"])


def _functions(space: dict[str, Any]) -> list[Callable[[], None]]:
  """Returns test_… functions, and those of Test… classes, in their order."""
  out = []
  for name, value in list(space.items()):
    if name.startswith("test") and _is_own(value):
      out.append(value)
    elif name.startswith("Test") and isinstance(value, type):
      out += [
        getattr(value(), part)
        for part in list(vars(value))
        if part.startswith("test")
      ]
  return out


def _is_own(value: Any) -> bool:
  """Returns whether a function is the tests', not one that they test."""
  return (
    isinstance(value, types.FunctionType)
    and value.__code__.co_filename == _FILE
  )


def _module(names: dict[str, Any]) -> types.ModuleType:
  module = types.ModuleType(NAME)
  module.__dict__.update(names)
  return module


def _line_of(error: BaseException) -> int:
  """Returns the line of the tests that an exception came through last."""
  line, trace = 0, error.__traceback__
  while trace:
    if trace.tb_frame.f_code.co_filename == _FILE:
      line = trace.tb_lineno
    trace = trace.tb_next
  return line


def _name_of(error: BaseException) -> str:
  return str(error) if isinstance(error, _Raised) else type(error).__name__
