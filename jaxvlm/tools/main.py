"""`jaxvlm COMMAND --flags`: finds the command's module and runs it."""

import difflib
import importlib
import sys

import jaxvlm
from jaxvlm import program

# What for -> command -> what it does; each is a module beside this one.
COMMANDS = {
  "Look": {
    "sample": "answer a question about a picture, or those of a file",
    "world": "draw the generated world on one sheet",
  },
  "Train": {
    "train": "train a model on your own rows, by any of seven objectives",
    "export": "a checkpoint of a run as a Hugging Face folder",
    "convert": "a Hugging Face folder as sharded arrays, and back, verified",
  },
  "Measure": {
    "evaluate": "accuracy and pass@k of a model folder, with intervals",
    "diagnose": "will RL get anywhere from this checkpoint? asked beforehand",
    "influence": "what one update does to everything else: a heat map",
  },
  "Plan": {
    "plan": "does this step fit that TPU slice? compiled, without one",
    "sandbox": "what may a program do here? tried; or run one with its tests",
    "completion": "commands and flags for the Tab key of bash and zsh",
  },
}
NAMES = tuple(name for group in COMMANDS.values() for name in group)
# Code -> what a script may do about it (docs/exit_codes.md).
EXITS = {
  0: "done",
  1: "an error, said in a sentence",
  2: "flags that cannot be read",
  75: "told to end, all is saved: the same command resumes",
  76: "another process was lost: the same command resumes",
  130: "ended by Ctrl-C; the last line says what is kept",
  141: "the reader of the output left, such as head",
}


def _overview() -> None:
  print("usage: jaxvlm COMMAND [--flags]; jaxvlm COMMAND --help")
  for group, commands in COMMANDS.items():
    print(f"\n{group}")
    for command, what in commands.items():
      print(f"  {command:12s}{what}")
  print(
    "\nStudies are no commands: python -m experiments.NAME.run, in a checkout."
  )
  print("\nExit codes")
  for code, what in EXITS.items():
    print(f"  {code:<12d}{what}")


def run() -> None:
  """Entry point of the `jaxvlm` command."""
  name = sys.argv.pop(1) if len(sys.argv) > 1 else "help"
  if name in ("-h", "--help", "--helpfull", "help"):
    del sys.argv[1:]
    program.run(_overview, "jaxvlm")
  if name == "--version":
    print(f"jaxvlm {jaxvlm.__version__}")
    return
  if name not in NAMES:
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    print(
      f"jaxvlm: no command {name!r}; {hint}expected one of {', '.join(NAMES)}",
      file=sys.stderr,
    )
    sys.exit(program.USAGE)
  try:
    command = importlib.import_module(f"jaxvlm.tools.{name}")
  except KeyboardInterrupt:  # libraries take seconds to load
    sys.exit(program.INTERRUPTED)
  command.run()


if __name__ == "__main__":
  run()
