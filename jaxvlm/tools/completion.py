"""Commands and flags for the Tab key of bash and zsh.

  jaxvlm completion bash > ~/.local/share/bash-completion/completions/jaxvlm
  jaxvlm completion zsh > "${fpath[1]}/_jaxvlm"

It takes seconds, because it loads every command to ask for its flags: write a
file once, as above, and again after an update.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence

from absl import flags

from jaxvlm import bars, program
from jaxvlm.tools import main as commands

SHELLS = ("bash", "zsh")

# The word under the cursor is cut out of the line itself: bash splits words at
# the = of a flag, zsh does not.
_SCRIPT = """\
_jaxvlm() {{
  local word="${{COMP_LINE:0:COMP_POINT}}" verb="${{COMP_WORDS[1]}}"
  local choices= pre=
  word="${{word##*[[:space:]]}}"
  COMPREPLY=()
  if [[ $COMP_CWORD -le 1 ]]; then
    COMPREPLY=($(compgen -W "{verbs}" -- "$word"))
    return
  fi
  if [[ $word != --*=* ]]; then
    case "$verb" in
{flags}
    esac
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
    return
  fi
  case "$verb ${{word%%=*}}" in
{values}
  esac
  [[ -n $ZSH_VERSION ]] && pre="${{word%%=*}}="
  word="${{word#*=}}"
  if [[ -n $choices ]]; then
    COMPREPLY=($(compgen -P "$pre" -W "$choices" -- "$word"))
  else
    COMPREPLY=($(compgen -P "$pre" -f -- "$word"))
  fi
}}
complete -o nospace -o default -F _jaxvlm jaxvlm
"""
_ZSH = """\
#compdef jaxvlm
autoload -U +X bashcompinit && bashcompinit
"""


def main(shell: str) -> None:
  names = bars.bar(commands.NAMES, "commands", leave=False)
  print(script(shell, {name: flags_of(name) for name in names}), end="")


def flags_of(command: str) -> list[flags.Flag]:
  """Returns the flags of a command: of all its forms, where it has several.

  For a process that runs no command: commands define their flags while they
  are imported, under the same names.
  """
  with _undone():
    module = importlib.import_module(f"jaxvlm.tools.{command}")
    found = _defined()
  for form in getattr(module, "FORMS", ()):
    with _undone():
      module.define((command, form))
      found |= _defined()
  everywhere = flags.FlagValues()
  program.define_everywhere(everywhere)
  found |= {name: everywhere[name] for name in everywhere}
  return [found[name] for name in sorted(found)]


@contextlib.contextmanager
def _undone() -> Iterator[None]:
  """Takes back the flags that are defined inside."""
  before = set(flags.FLAGS)
  try:
    yield
  finally:
    for name in set(flags.FLAGS) - before:
      delattr(flags.FLAGS, name)


def _defined() -> dict[str, flags.Flag]:
  """Returns the flags of ours that are defined now."""
  by_module = flags.FLAGS.flags_by_module_dict()
  return {
    flag.name: flag
    for module, found in by_module.items()
    if module.startswith("jaxvlm.")
    for flag in found
  }


def script(shell: str, known: Mapping[str, Sequence[flags.Flag]]) -> str:
  """Returns what a shell is given.

  Args:
    shell: one of `SHELLS`.
    known: command -> its flags.
  """
  words, values = [], []
  for command, found in known.items():
    shown = " ".join(
      f"--{flag.name}" if flag.boolean else f"--{flag.name}=" for flag in found
    )
    words.append(f'      {command}) choices="{shown}" ;;')
    for flag in found:
      if choices := program.choices_of(flag):
        given = " ".join(choices)
        values.append(f'    "{command} --{flag.name}") choices="{given}" ;;')
  text = _SCRIPT.format(
    verbs=" ".join(known), flags="\n".join(words), values="\n".join(values)
  )
  return (_ZSH if shell == "zsh" else "") + text


def run() -> None:
  asked = [word for word in sys.argv[1:] if not word.startswith("-")]
  sys.argv = [word for word in sys.argv if word not in asked]

  def command() -> None:
    if len(asked) != 1 or asked[0] not in SHELLS:
      raise ValueError(
        f"shell is {' '.join(asked) or 'not given'}, expected one of"
        f" {', '.join(SHELLS)}: jaxvlm completion bash"
      )
    main(asked[0])

  program.run(command, "jaxvlm completion")
