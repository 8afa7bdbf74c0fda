"""How a program meets its user: flags, help, errors, pipes, noise.

Every command of ours is a function without arguments that reads its flags;
`run` does the rest, the same for all of them.
"""

import difflib
import importlib.util
import logging
import os
import pathlib
import re
import select
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any, NoReturn, TextIO

from absl import flags

import jaxvlm

flags.disclaim_key_flags()

# sysexits.h and the shells' habit: 128 + the signal's number.
USAGE, INTERRUPTED, READER_LEFT = 2, 130, 141
_HELP = ("-h", "-help", "--help", "--helpshort", "--helpfull")
# Libraries that report every file they write.
_TALKATIVE = ("absl", "jax", "orbax", "tensorboardX")
# Set by libtpu and JAX themselves, chip or no chip.
_NO_SIGN = {"TPU_LIBRARY_PATH", "TPU_SKIP_MDS_QUERY"}
_OURS = ("jaxvlm", "experiments", "benchmarks")


def run(
  main: Callable[[], Any],
  name: str,
  values: flags.FlagValues = flags.FLAGS,
  *,
  define: Callable[[], None] | None = None,
) -> NoReturn:
  """Parses the flags, calls `main` and ends the process.

  What a user can mend (`ValueError`, `OSError`) ends in one sentence and code
  1, flags that cannot be read in one and code 2. Any other error is a fault of
  ours and keeps its traceback. Output whose reader has left, such as `head`,
  ends quietly.

  Args:
    main: reads flags, takes nothing; its module's docstring and flags are what
      `--help` shows.
    name: as a person types it, e.g. "jaxvlm sample".
    values: the flags.
    define: defines flags whose defaults depend on other flags.
  """
  module, arguments, verbose = sys.modules[main.__module__], sys.argv[1:], False
  flags.DEFINE_bool(
    "verbose", False, "show what libraries report, and tracebacks", values
  )
  try:
    if define:
      _define(define, name)
    if any(word in _HELP for word in arguments):
      print(help_of(module, name, values))
    elif "--version" in arguments:
      print(f"{name} {jaxvlm.__version__}")
    else:
      parse(arguments, name, module, values)
      verbose = values["verbose"].value
      hush(name, verbose)
      main()
    if sys.stdout:  # None where it was closed from the start
      sys.stdout.flush()
  except BrokenPipeError as error:
    if not (_unread(sys.stdout) or _unread(sys.stderr)):
      _give_up(error, name, verbose)  # another pipe, such as a worker's
    # The interpreter flushes at its end, and would stumble again.
    for stream in (sys.stdout, sys.stderr):
      os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(READER_LEFT)
  except (ValueError, OSError, ModuleNotFoundError) as error:
    _give_up(error, name, verbose)  # the last: of an extra, such as parquet
  except KeyboardInterrupt:
    print(f"\n{name}: interrupted", file=sys.stderr)
    sys.exit(INTERRUPTED)
  sys.exit(0)


def _define(define: Callable[[], None], name: str) -> None:
  try:
    define()
  except flags.Error as error:
    _refuse(str(error), name)


def parse(
  arguments: Sequence[str], name: str, module: Any, values: flags.FlagValues
) -> None:
  """Reads the flags; what is wrong with them ends the process, in a sentence.

  Args:
    arguments: what stands behind the program's name.
    name: of the program, as a person types it.
    module: whose flags are suggested for one that is misspelled.
    values: the flags.
  """
  try:
    stray = values([sys.argv[0], *arguments])[1:]
  except flags.UnrecognizedFlagError as error:
    known = [flag.name for flag in _flags_of(module, values)]
    near = difflib.get_close_matches(error.flagname, known, n=1)
    hint = f"; did you mean --{near[0]}?" if near else ""
    _refuse(f"no flag --{error.flagname}{hint}", name)
  except flags.Error as error:
    text = str(error)
    if absent := re.search(r"Flag --(\S+) must have a value other than", text):
      text = f"--{absent[1]} is missing; expected --{absent[1]}=…"
    _refuse(text, name)
  if stray:
    _refuse(f"unexpected {stray[0]!r}; expected flags, as --name=value", name)


def help_of(module: Any, name: str, values: flags.FlagValues) -> str:
  """Returns what `--help` prints: the module's docstring and its flags."""
  lines = [f"usage: {name} [--flags]", "", (module.__doc__ or "").strip(), ""]
  for flag in _flags_of(module, values):
    shown = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
    if flag.default is not None and not flag.boolean:
      shown += f"={flag.default_as_str.strip(chr(39))}"
    told = " ".join(flag.help.split())
    if not flag.boolean and (kind := _kind(flag)):
      told += f" ({kind})"
    lines += [f"  {shown}"]
    lines += textwrap.wrap(told, 74, initial_indent="      ",
                           subsequent_indent="      ")  # fmt: skip
  return "\n".join(lines)


def _kind(flag: flags.Flag) -> str:
  """Returns the accepted values of a flag that has but a few."""
  kind = flag.parser.flag_type()
  return kind if kind.startswith("one of") and kind not in flag.help else ""


def _flags_of(module: Any, values: flags.FlagValues) -> list[flags.Flag]:
  """Returns the flags that a module defines, `--verbose` last."""
  own = values.get_key_flags_for_module(module)
  return [*(f for f in own if f.name != "verbose"), values["verbose"]]


def hush(name: str, verbose: bool) -> None:
  """Leaves to the terminal what concerns the user: our own words."""
  logging.basicConfig(format=f"{name}: %(message)s", level=logging.INFO)
  if verbose:
    return
  for library in _TALKATIVE:
    logging.getLogger(library).setLevel(logging.WARNING)
  # It sets its own level when it is imported, which is later. Its warnings are
  # about settings that we check ourselves, or do not read.
  os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
  if "jax" in sys.modules:
    _spare_absent_tpu()


def _spare_absent_tpu() -> None:
  """Does not start a TPU runtime that is here to compile without a TPU.

  libtpu, where no TPU is, takes seconds to find that out, in eight lines of
  errors. JAX has looked for chips while it was imported, and has set its
  platforms if there is one, or if it was told. Only where nothing else speaks
  for a TPU or another accelerator, what remains is the CPU.
  """
  import jax

  if importlib.util.find_spec("libtpu") and not may_have_accelerator(
    jax.config.jax_platforms, os.environ, pathlib.Path("/dev")
  ):
    jax.config.update("jax_platforms", "cpu")


def may_have_accelerator(
  platforms: str | None, environment: Mapping[str, str], devices: pathlib.Path
) -> bool:
  """Returns whether anything speaks for a device other than the CPU.

  Args:
    platforms: JAX's own choice, made while it was imported.
    environment: variables of the process.
    devices: folder of device files; TPU hosts have accel* or vfio/*.
  """
  named = [name for name in environment if name.startswith("TPU_")]
  return bool(
    platforms
    or set(named) - _NO_SIGN
    or "JAX_FORCE_TPU_INIT" in environment
    or any(devices.glob("accel*"))
    or any(devices.glob("vfio/*"))
    or importlib.util.find_spec("jax_plugins")
    or metadata.entry_points(group="jax_plugins")
  )


def _give_up(error: Exception, name: str, verbose: bool) -> NoReturn:
  """Says what is wrong; keeps the traceback of what we did not foresee."""
  said = str(error) or type(error).__name__
  if isinstance(error, OSError) and error.strerror and error.filename:
    said = f"{error.filename}: {error.strerror}"
  if verbose:
    traceback.print_exception(error)
  elif not isinstance(error, OSError) and not _foreseen(error):
    with tempfile.NamedTemporaryFile(
      "w", prefix="jaxvlm-", suffix=".txt", delete=False
    ) as file:
      traceback.print_exception(error, file=file)
    said += f" (where it was raised: {file.name})"
  print(f"{name}: {said}", file=sys.stderr)
  sys.exit(1)


def _foreseen(error: Exception) -> bool:
  """Returns whether our own code raised it, with words for the user."""
  frame = error.__traceback__
  while frame.tb_next:
    frame = frame.tb_next
  module = frame.tb_frame.f_globals.get("__name__", "")
  return module == "__main__" or module.split(".")[0] in _OURS


def _refuse(text: str, name: str) -> NoReturn:
  text = text if text.endswith((".", "?")) else f"{text}."
  print(f"{name}: {text} See {name} --help", file=sys.stderr)
  sys.exit(USAGE)


def _unread(stream: TextIO) -> bool:
  """Returns whether a stream is a pipe that nobody reads any more."""
  poll = select.poll()
  poll.register(stream.fileno(), 0)
  return any(event & select.POLLERR for _, event in poll.poll(0))
