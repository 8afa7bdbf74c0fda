"""Commands in the pages: each exists, with the flags that it is given."""

import ast
import functools
import importlib
import re
import shlex

import pytest
from absl import flags as absl_flags

from jaxvlm import config as configs
from jaxvlm.distributed import DistributedConfig
from jaxvlm.study.config import Scale
from jaxvlm.tools import main, train
from jaxvlm.tools.compute import ComputeConfig
from jaxvlm.tools.training.config import TrainConfig
from jaxvlm.tools.training.recipes import RECIPES
from tests.docs import pages

# What a shell or an operating system has.
OTHERS = {"cd", "cp", "docker", "export", "git", "pip", "source", "vllm"}
# Flags of every start, which are no settings.
START = {"workdir", "dry_run", "plan", "wandb_project"}
EVERYWHERE = {"help", "helpfull", "helpshort", "quiet", "verbose", "version"}


def lines(name):
  """Returns the words of a page's command lines, comments left out."""
  found = []
  for _, code in pages.blocks(name, "sh"):
    for line in code.replace("\\\n", " ").splitlines():
      words = shlex.split(line, comments=True)
      while words and re.fullmatch(r"\w+=.*", words[0]):
        del words[0]  # a variable of the environment
      if words:
        found.append(words)
  return found


def of_settings(*some):
  """Returns the flags of settings."""
  values = absl_flags.FlagValues()
  for config in some:
    configs.define_flags(config, values)
  configs.define_flags(DistributedConfig(), values, "distributed")
  return set(values) | START


@functools.cache
def of_a_command(name):
  """Returns the flags of a `jaxvlm` command, read from its source."""
  if name == "train":
    stages = [of_settings(TrainConfig(), r.stage) for r in RECIPES.values()]
    return set().union(*stages, train._SHORT, {"objective"})
  found = of_settings(ComputeConfig())
  source = (pages.ROOT / f"jaxvlm/tools/{name}.py").read_text()
  for node in ast.walk(ast.parse(source)):
    if not isinstance(node, ast.Call):
      continue
    called = ast.unparse(node.func).rpartition(".")[2]
    if called == "define_json":
      found.add("json")
    if node.args:
      first = node.args[0]
      if "define" in called.lower() and isinstance(first, ast.Constant):
        found.add(first.value)
  return found


@functools.cache
def of_a_study(name):
  config = importlib.import_module(f"experiments.{name}.config")
  scales = [getattr(config, scale.value)() for scale in Scale]
  return set().union(*map(of_settings, scales), {"scale", "quick"})


def targets():
  text = (pages.ROOT / "Makefile").read_text()
  return set(re.findall(r"^([\w-]+):", text, re.MULTILINE))


def module(name):
  path = pages.ROOT / name.replace(".", "/")
  return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def known(words, own=()):
  """Returns the flags that a command has; None where nobody knows them.

  Args:
    words: of the command line.
    own: scripts that its page shows.
  """
  program, *rest = words
  if program == "jaxvlm":
    assert rest[0].startswith("--") or rest[0] in main.NAMES, words
    return set() if rest[0].startswith("--") else of_a_command(rest[0])
  if program == "make":
    named = [word for word in rest if "=" not in word]
    assert set(named) <= targets(), words
  elif program == "python" and rest[0] == "-m":
    study = re.fullmatch(r"experiments\.(\w+)\.run", rest[1])
    assert module(rest[1]) or not rest[1].startswith(
      ("jaxvlm", "experiments", "benchmarks", "tests")
    ), words
    if study and study[1] != "nano":
      return of_a_study(study[1])
  elif program == "python" and rest[0] != "-c":
    assert rest[0] in own or (pages.ROOT / rest[0]).is_file(), words
  elif program.startswith("scripts/"):
    assert (pages.ROOT / program).is_file(), words
  elif program != "python":
    assert program in OTHERS, words
  return None


@pytest.mark.parametrize("name", pages.names())
def test_every_command_line_exists(name):
  shown = "".join(code for _, code in pages.blocks(name, "python"))
  own = re.findall(r"^# (\S+\.py)$", shown, re.MULTILINE)
  for words in lines(name):
    flags = known(words, own)
    if flags is None:
      continue
    for word in words:
      flag = re.match(r"--(?:no)?([a-z][\w.]*)", word)
      given = re.match(r"--([a-z][\w.]*)", word)
      if flag:
        assert {flag[1], given[1]} & (flags | EVERYWHERE), (name, word)


@pytest.mark.parametrize(
  "line",
  ["jaxvlm trian", "make lob", "python -m experiments.nothing.run", "jaxv"],
)
def test_a_command_that_does_not_exist_is_noticed(line):
  with pytest.raises(AssertionError):
    known(line.split())


def test_a_flag_that_does_not_exist_is_noticed():
  flags = known(["jaxvlm", "evaluate"])
  assert {"samples", "mesh.data", "bfloat16"} <= flags
  assert "sample" not in flags


def test_short_names_of_settings_are_flags():
  assert {"lr", "steps", "data.max_new_tokens"} <= of_a_command("train")
