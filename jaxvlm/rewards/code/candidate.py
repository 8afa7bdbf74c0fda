"""The process of a program under test: it answers calls and judges nothing."""

import random
import sys
import types

from jaxvlm.rewards.code import codec, frames

NAME = "solution"


def load(program: str, name: str = NAME) -> types.ModuleType:
  """Runs a program as a module that can be imported by its name."""
  module = types.ModuleType(name)
  sys.modules[name] = module
  random.seed(0)  # the same verdict whenever it is asked for
  exec(compile(program, f"<{name}>", "exec"), module.__dict__)
  return module


def serve(program: bytes, channel: int) -> None:
  """Runs a program, then answers calls of its functions until it is killed.

  What it says is not trusted: it only knows arguments, never what is right.

  Args:
    program: source, UTF-8.
    channel: socket to the process that holds the tests.
  """
  try:
    module = load(program.decode())
  except BaseException as error:  # SystemExit and MemoryError among them
    frames.send(channel, b"E" + _name_of(error))
    return
  frames.send(channel, b"V" + codec.encode(None))
  while True:
    frames.send(channel, _answer(module, frames.receive(channel)))


def _answer(module: types.ModuleType, call: bytes) -> bytes:
  name, arguments, keywords = codec.decode(call)
  try:
    value = module.__dict__[name](*arguments, **keywords)
    return b"V" + codec.encode(value)
  except codec.Unsendable as error:
    return b"U" + str(error).encode("ascii", "replace")[:80]
  except KeyError:
    missing = name not in module.__dict__
    return b"E" + (b"NameError" if missing else b"KeyError")
  except BaseException as error:
    return b"E" + _name_of(error)


def _name_of(error: BaseException) -> bytes:
  return type(error).__name__.encode("ascii", "replace")[:80]
