"""How a program meets its user: flags, help, errors, pipes, noise.

Every command of ours is a function without arguments that reads its flags;
`run` does the rest, the same for all of them.
"""

import contextlib
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, NoReturn, TextIO

from absl import flags

import jaxvlm
from jaxvlm import bars

flags.disclaim_key_flags()

# sysexits.h and the shells' habit: 128 + the signal's number.
USAGE, INTERRUPTED, READER_LEFT = 2, 130, 141
_HELP = ("-h", "-help", "--help", "--helpshort", "--helpfull")
# Heading -> names of the flags below it, in this order.
Groups = Mapping[str, Sequence[str]]
NOTHING_KEPT = "nothing is kept, the same command begins again"
_EVERYWHERE = {"Every command": ("quiet", "verbose")}
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
  groups: Groups | None = None,
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
    groups: the flags that `--help` shows; `--helpfull` shows the rest, too.
      None: all of them.
  """
  module, arguments, verbose = sys.modules[main.__module__], sys.argv[1:], False
  define_everywhere(values)
  try:
    if define:
      _define(define, name)
    if any(word in _HELP for word in arguments):
      groups = None if "--helpfull" in arguments else groups
      print(help_of(module, name, values, groups))
    elif "--version" in arguments:
      print(f"{name} {jaxvlm.__version__}")
    else:
      parse(arguments, name, module, values)
      verbose = values["verbose"].value
      hush(name, verbose, values["quiet"].value)
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
  except KeyboardInterrupt as error:
    # Whoever keeps something for the next start notes it on the way.
    kept = "; ".join(getattr(error, "__notes__", ())) or NOTHING_KEPT
    print(f"\n{name}: interrupted; {kept}", file=sys.stderr)
    sys.exit(INTERRUPTED)
  sys.exit(0)


def define_everywhere(values: flags.FlagValues) -> None:
  """Defines the flags that every command has."""
  flags.DEFINE_bool("quiet", False, "no bars, no remarks: results only", values)
  flags.DEFINE_bool(
    "verbose", False, "show what libraries report, and tracebacks", values
  )


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


def help_of(
  module: Any,
  name: str,
  values: flags.FlagValues,
  groups: Groups | None = None,
) -> str:
  """Returns what `--help` prints: the module's docstring and flags.

  Args:
    module: whose they are.
    name: of the program, as a person types it.
    values: the flags.
    groups: those that are shown; None: all, by their sections.
  """
  known = {flag.name: flag for flag in _flags_of(module, values)}
  shown = {**(groups or _sections(known)), **_EVERYWHERE}
  lines = [f"usage: {name} [--flags]", "", (module.__doc__ or "").strip()]
  for heading, names in shown.items():
    found = [known[of] for of in names if of in known]
    lines += ["", heading, *(line for f in found for line in _lines(f))]
  rest = known.keys() - {of for names in shown.values() for of in names}
  if rest:
    lines += ["", f"{len(rest)} more flags: {name} --helpfull"]
  return "\n".join(lines)


def _sections(names: Iterable[str]) -> Groups:
  """Returns flags by what stands before the dot in their names."""
  found: dict[str, list[str]] = {"Flags": []}
  for name in names:
    section, dot, _ = name.rpartition(".")
    heading = f"Flags of {section}" if dot else "Flags"
    if name not in _EVERYWHERE["Every command"]:
      found.setdefault(heading, []).append(name)
  return {heading: names for heading, names in found.items() if names}


# What absl adds to the texts of flags that have few values, or several.
_ABSL = re.compile(r"^<[^>]*>: |; repeat this option to specify a list of.*")
_COLUMN = 28  # where texts begin
# The first word of what absl calls a kind of value -> how help writes one.
_KINDS = {
  **{"int": "INT", "float": "NUMBER", "path": "PATH", "multi": "…"},
  **{"comma": "A,B,…", "tuple": "A,B,…"},
}


def _lines(flag: flags.Flag) -> list[str]:
  """Returns a flag with its default, and what it is for beside it."""
  many = isinstance(flag, flags.MultiFlag)  # its default is a list
  default = "" if many else str(flag.default_as_str or "").strip("'")
  shown = f"  --[no]{flag.name}" if flag.boolean else f"  --{flag.name}="
  if not flag.boolean:
    kind = re.split(r"\W", flag.flag_type(), maxsplit=1)[0]
    shown += default or _KINDS.get(kind, "…")
  choices = choices_of(flag)
  told = _ABSL.sub("", " ".join(flag.help.split()))
  if choices and not all(choice in told for choice in choices):
    told += f" ({', '.join(choices)})"
  if flag.boolean and flag.default:
    told += " (default: yes)"
  wrapped = textwrap.wrap(told, 80 - _COLUMN)
  beside = len(shown) < _COLUMN
  first = f"{shown:{_COLUMN}s}{wrapped.pop(0) if beside and wrapped else ''}"
  return [first.rstrip(), *(" " * _COLUMN + line for line in wrapped)]


def choices_of(flag: flags.Flag) -> tuple[str, ...]:
  """Returns the values that a flag takes, where they are but a few."""
  parser = flag.parser
  if isinstance(parser, flags.EnumParser):
    return tuple(parser.enum_values)
  if isinstance(parser, flags.EnumClassParser):
    return tuple(parser.member_names)
  kind = flag.flag_type()
  return tuple(kind[7:].split(", ")) if kind.startswith("one of ") else ()


def _flags_of(module: Any, values: flags.FlagValues) -> list[flags.Flag]:
  """Returns the flags that a module defines, those of all commands last."""
  last = _EVERYWHERE["Every command"]
  own = values.get_key_flags_for_module(module)
  return [*(f for f in own if f.name not in last), *(values[n] for n in last)]


@contextlib.contextmanager
def on_interrupt(kept: str) -> Iterator[None]:
  """Has `run` say after Ctrl-C what the next start finds; "" says nothing."""
  try:
    yield
  except KeyboardInterrupt as error:
    if kept:
      error.add_note(kept)
    raise


def hush(name: str, verbose: bool, quiet: bool = False) -> None:
  """Leaves to the terminal what concerns the user: our own words.

  Args:
    name: of the program, as a person types it.
    verbose: libraries may speak, too.
    quiet: no bars, and of our own words only warnings.
  """
  level = logging.WARNING if quiet else logging.INFO
  logging.basicConfig(format=f"{name}: %(message)s", level=level)
  if quiet:
    bars.hide()
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
