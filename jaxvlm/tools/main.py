"""`jaxvlm COMMAND --flags`: finds the command's module and runs it."""

import importlib
import sys

_COMMANDS = {
  "sample": "answer a question about a picture",
  "evaluate": "accuracy and pass@k of a model folder, with intervals",
  "export": "a checkpoint of a run as a Hugging Face folder",
  "plan": "does this step fit that TPU slice? compiled, without one",
  "world": "draw the generated world on one sheet",
}


def run() -> None:
  """Entry point of the `jaxvlm` command."""
  name = sys.argv[1] if len(sys.argv) > 1 else "--help"
  if name in ("-h", "--help", "help"):
    print("usage: jaxvlm COMMAND [--flags]; jaxvlm COMMAND --help\n")
    for command, what in _COMMANDS.items():
      print(f"  {command:10s}{what}")
    return
  if name not in _COMMANDS:
    sys.exit(
      f"jaxvlm: no command {name!r}; expected one of {', '.join(_COMMANDS)}"
    )
  module = importlib.import_module(f"jaxvlm.tools.{name}")
  # absl's --help lists the flags of the module that argv[0] names.
  sys.argv = [module.__name__, *sys.argv[2:]]
  module.run()


if __name__ == "__main__":
  run()
