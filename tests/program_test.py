"""What a person meets of any command: flags, help, errors, pipes.

The module's docstring and flags are what `--help` shows.
"""

import dataclasses
import enum
import json
import logging
import os
import re
import subprocess
import sys
import types

import pytest
from absl import flags

import jaxvlm
from jaxvlm import bars, config, program


@pytest.fixture
def call(monkeypatch, capfd):
  """Returns a function: (main, arguments) -> (code, stdout, stderr)."""

  def finish(main, *arguments, **settings):
    values = flags.FlagValues()
    where = {"flag_values": values, "module_name": __name__}
    flags.DEFINE_integer("count", 3, "how many", **where)
    flags.DEFINE_string("name", None, "required", required=True, **where)
    monkeypatch.setattr(sys, "argv", ["x", *arguments])
    with pytest.raises(SystemExit) as end:
      program.run(lambda: main(values), "tool", values, **settings)
    return end.value.code, *capfd.readouterr()

  return finish


def show(values):
  print(values["count"].value, values["name"].value)


def test_a_command_that_ends_well(call):
  assert call(show, "--name=a", "--count=7") == (0, "7 a\n", "")


@pytest.mark.parametrize("word", ["--help", "-h", "--helpfull"])
def test_help_shows_the_module_and_its_flags_and_is_no_error(call, word):
  code, out, err = call(show, word)
  assert (code, err) == (0, "") and out.startswith("usage: tool [--flags]")
  for text in ("What a person meets", "--name=…  ", "  --[no]quiet  "):
    assert text in out
  assert re.search("^  --count=3 +how many$", out, re.MULTILINE)
  assert max(map(len, out.splitlines())) <= 80


def test_help_shows_some_flags_and_helpfull_the_rest(call):
  groups = {"What is counted": ["count", "of another objective"]}
  _, out, _ = call(show, "--help", groups=groups)
  assert "\nWhat is counted\n  --count=3" in out and "--name" not in out
  assert out.endswith("\n1 more flags: tool --helpfull\n")
  _, out, _ = call(show, "--helpfull", groups=groups)
  assert "\nFlags\n  --count=3" in out and "--name" in out
  assert "more flags" not in out


class Kind(enum.Enum):
  FAST = 1
  SLOW = 2


@dataclasses.dataclass(frozen=True)
class Inner:
  rate: float = config.setting("of change, 1/s", 0.5)
  kind: Kind = Kind.FAST


@dataclasses.dataclass(frozen=True)
class Settings:
  inner: Inner = dataclasses.field(default_factory=Inner)
  file: config.FilePath = config.setting("what is read", "")
  on: bool = config.setting("whether it runs", True)


def test_help_names_sections_kinds_choices_and_defaults():
  values = flags.FlagValues()
  program.define_everywhere(values)
  config.define_flags(Settings(), values)
  config.define_alias("r", "inner.rate", values)
  flags.DEFINE_enum("mode", "a", ["a", "b"], "how", values, module_name="m")
  flags.DEFINE_multi_string("stop", [], "ends", values, module_name="m")
  for name in values:
    values.register_key_flag_for_module("m", values[name])
  text = program.help_of(types.ModuleType("m"), "tool", values)
  for line in (
    "  --inner.rate=0.5 +of change, 1/s",
    "  --r=0.5 +of change, 1/s",
    r"  --inner.kind=fast +one of fast, slow",
    "  --file=PATH +what is read",
    r"  --\[no\]on +whether it runs \(default: yes\)",
    r"  --mode=a +how \(a, b\)",
    "  --stop=… +ends",
  ):
    assert re.search(f"^{line}$", text, re.MULTILINE), (line, text)
  assert text.index("\nFlags\n") < text.index("\nFlags of inner\n")


def test_quiet_hides_bars_and_remarks(call, monkeypatch):
  monkeypatch.setattr(logging.getLogger("jaxvlm.bars"), "level", 0)
  monkeypatch.setattr(logging.root, "handlers", [])
  monkeypatch.setattr(logging.root, "level", logging.WARNING)

  def main(values):
    list(bars.bar([1], "steps"))
    logging.info("a remark")
    logging.warning("a warning")
    print("a result")

  _, out, err = call(main, "--name=a", "--quiet")
  assert (out, err) == ("a result\n", "tool: a warning\n")


def test_version(call):
  assert call(show, "--version")[1] == f"tool {jaxvlm.__version__}\n"


@pytest.mark.parametrize(
  "arguments,text",
  [
    (["--naem=a"], "no flag --naem; did you mean --name?"),
    (["--name=a", "--xyzzy"], "no flag --xyzzy."),
    (["--count=3"], "--name is missing; expected --name=…."),
    (["--name=a", "--count=many"], "--count=many"),
    (["--name=a", "stray"], "unexpected 'stray'; expected flags"),
  ],
)
def test_flags_that_cannot_be_read_end_in_a_sentence(call, arguments, text):
  code, out, err = call(show, *arguments)
  assert (code, out) == (program.USAGE, "")
  assert err.startswith(f"tool: {text}") or text in err
  assert err.endswith("See tool --help\n") and err.count("\n") == 1


def test_flags_that_depend_on_flags_are_refused_as_others(monkeypatch, capfd):
  values = flags.FlagValues()
  monkeypatch.setattr(sys, "argv", ["x", "--scale=galaxy"])

  def define():
    flags.DEFINE_enum("scale", "a", ["a", "b"], "", flag_values=values)
    values(sys.argv)

  with pytest.raises(SystemExit) as end:
    program.run(lambda: None, "tool", values, define=define)
  err = capfd.readouterr().err
  assert end.value.code == program.USAGE and err.count("\n") == 1
  assert "galaxy" in err and "a|b" in err


def fail(error):
  def main(values):
    raise error

  return main


@pytest.mark.parametrize(
  "error,text",
  [
    (ValueError("n is 3, expected 4"), "n is 3, expected 4"),
    (FileNotFoundError("no folder x"), "no folder x"),
    (FileNotFoundError(2, "No such file", "/x"), "/x: No such file"),
    (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied"),
    (OSError(28, "No space left on device"), "[Errno 28] No space left"),
  ],
)
def test_what_a_user_can_mend_is_one_sentence(call, monkeypatch, error, text):
  monkeypatch.setattr(program, "_OURS", ("tests", "program_test"))
  code, out, err = call(fail(error), "--name=a")
  assert (code, out) == (1, "") and err.startswith(f"tool: {text}")
  assert err.count("\n") == 1
  _, _, err = call(fail(error), "--name=a", "--verbose")
  assert "Traceback" in err and err.splitlines()[-1].startswith(f"tool: {text}")


def test_an_error_that_nobody_foresaw_keeps_its_traceback_in_a_file(
  call, monkeypatch, tmp_path
):
  monkeypatch.setattr(program.tempfile, "tempdir", str(tmp_path))
  code, _, err = call(lambda values: json.loads("{"), "--name=a")
  (file,) = tmp_path.iterdir()
  assert code == 1 and "Traceback" not in err
  assert err.startswith("tool: Expecting property name") and str(file) in err
  assert "json.loads" in file.read_text()


def test_a_fault_of_ours_is_not_hidden(call, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["x"])
  with pytest.raises(KeyError):
    program.run(lambda: {}["x"], "tool", flags.FlagValues())


def test_interrupted_is_one_line_that_says_what_is_kept(call):
  code, _, err = call(fail(KeyboardInterrupt()), "--name=a")
  assert code == program.INTERRUPTED
  assert err == f"\ntool: interrupted; {program.NOTHING_KEPT}\n"

  def main(values):
    with program.on_interrupt("step 3 is kept"), program.on_interrupt(""):
      raise KeyboardInterrupt

  code, _, err = call(main, "--name=a")
  assert (code, err) == (130, "\ntool: interrupted; step 3 is kept\n")


WRITER = """
import os, sys
from absl import flags
from jaxvlm import program
def main():
  if os.environ["TO"] == "a pipe of its own":
    r, w = os.pipe(); os.close(r); os.write(w, b"x")
  for i in range(100_000):
    print("line", i, file=getattr(sys, os.environ["TO"]))
program.run(main, "tool")
"""


def test_output_whose_reader_left_ends_quietly():
  """Also standard error; another broken pipe is an error as ever."""
  script = """
  TO=stdout "$PYTHON" -c "$WRITER" | head -1; echo ${PIPESTATUS[0]}
  TO=stderr "$PYTHON" -c "$WRITER" 2>&1 >/dev/null | head -1
  echo ${PIPESTATUS[0]}
  TO='a pipe of its own' "$PYTHON" -c "$WRITER"; echo $?
  """
  done = subprocess.run(
    ["bash", "-c", script],
    capture_output=True,
    text=True,
    env={**os.environ, "PYTHON": sys.executable, "WRITER": WRITER},
  )
  expected = ["line 0", "141", "line 0", "141", "1"]
  assert done.stdout.splitlines() == expected
  assert done.stderr == "tool: [Errno 32] Broken pipe\n"


@pytest.mark.parametrize(
  "platforms,environment,file,expected",
  [
    (None, {}, None, False),
    # libtpu and JAX set these themselves, also where no chip is.
    (None, {"TPU_SKIP_MDS_QUERY": "1", "TPU_LIBRARY_PATH": "x"}, None, False),
    ("tpu,cpu", {}, None, True),
    ("cpu", {}, None, True),
    (None, {"TPU_ACCELERATOR_TYPE": "v5litepod-4"}, None, True),
    (None, {"TPU_WORKER_HOSTNAMES": "localhost"}, None, True),
    (None, {"JAX_FORCE_TPU_INIT": "1"}, None, True),
    (None, {}, "accel0", True),
    (None, {}, "vfio/0", True),
  ],
)
def test_a_tpu_is_never_hidden(
  tmp_path, monkeypatch, platforms, environment, file, expected
):
  # As on a machine without JAX's plugin for GPUs.
  monkeypatch.setattr(program.importlib.util, "find_spec", lambda name: None)
  monkeypatch.setattr(program.metadata, "entry_points", lambda group: [])
  if file:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
  found = program.may_have_accelerator(platforms, environment, tmp_path)
  assert found is expected


def test_a_plugin_of_another_accelerator_is_a_sign(monkeypatch, tmp_path):
  monkeypatch.setattr(program.metadata, "entry_points", lambda group: [])
  monkeypatch.setattr(program.importlib.util, "find_spec", lambda name: name)
  assert program.may_have_accelerator(None, {}, tmp_path)
