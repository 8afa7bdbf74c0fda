"""`jaxvlm COMMAND --flags`: finds the command's module and runs it."""

import importlib
import sys

import jaxvlm
from jaxvlm import program

_COMMANDS = {
  "train": "train a model on your own rows, by any of seven objectives",
  "sample": "answer a question about a picture, or those of a file",
  "evaluate": "accuracy and pass@k of a model folder, with intervals",
  "diagnose": "will RL get anywhere from this checkpoint? asked beforehand",
  "influence": "what one update does to everything else: a heat map",
  "export": "a checkpoint of a run as a Hugging Face folder",
  "convert": "a Hugging Face folder as sharded arrays, and back, verified",
  "plan": "does this step fit that TPU slice? compiled, without one",
  "sandbox": "what may a program do here? tried; or run one with its tests",
  "world": "draw the generated world on one sheet",
}


def _overview() -> None:
  print("usage: jaxvlm COMMAND [--flags]; jaxvlm COMMAND --help\n")
  for command, what in _COMMANDS.items():
    print(f"  {command:10s}{what}")


def run() -> None:
  """Entry point of the `jaxvlm` command."""
  name = sys.argv.pop(1) if len(sys.argv) > 1 else "help"
  if name in ("-h", "--help", "help"):
    del sys.argv[1:]
    program.run(_overview, "jaxvlm")
  if name == "--version":
    print(f"jaxvlm {jaxvlm.__version__}")
    return
  if name not in _COMMANDS:
    sys.exit(
      f"jaxvlm: no command {name!r}; expected one of {', '.join(_COMMANDS)}"
    )
  importlib.import_module(f"jaxvlm.tools.{name}").run()


if __name__ == "__main__":
  run()
