"""The recipes of WORKSPACE.md: their blocks run as they stand there."""

import dataclasses
import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxvlm import losses, models, tasks
from jaxvlm.tasks.task import score
from jaxvlm.tools import problems, sets
from jaxvlm.tools.problems import Wanted
from jaxvlm.train import objectives
from tests import compiling, tiny

ROOT = pathlib.Path(__file__).parents[1]
_BLOCK = re.compile(r"^```python\n(# (\S+\.py).*?)^```$", re.DOTALL | re.M)


PAGE = (ROOT / "WORKSPACE.md").read_text()
BLOCKS = {name: code for code, name in _BLOCK.findall(PAGE)}


def write(folder, name):
  """Writes a block to its file below a folder."""
  file = folder / name
  file.parent.mkdir(parents=True, exist_ok=True)
  file.write_text(BLOCKS[name])
  return file


@pytest.fixture
def load(tmp_path, monkeypatch):
  """Returns a function: name of a block's file -> it as a module."""

  def one(name):
    module = name.removesuffix(".py").replace("/", ".")
    spec = importlib.util.spec_from_file_location(module, write(tmp_path, name))
    made = importlib.util.module_from_spec(spec)
    if not importlib.util.find_spec(module):  # what is there stays
      monkeypatch.setitem(sys.modules, module, made)
    spec.loader.exec_module(made)
    return made

  return one


def test_a_loss(load, monkeypatch):
  made = load("jaxvlm/losses/margin.py")
  monkeypatch.setattr(losses, "margin_loss", made.margin_loss, raising=False)
  tests = load("tests/losses/margin_test.py")
  found = [name for name in vars(tests) if name.startswith("test_")]
  assert len(found) == 2
  for name in found:
    getattr(tests, name)()
  # The step sees the same number, and a gradient.
  margin = load("jaxvlm/train/objectives/margin.py").margin
  model, params = tiny.bag()
  batch = tiny.batch(group=2)
  objective = margin(model, vocab_size=tiny.VOCAB, delta=4.0)
  total = objectives.count(batch)
  run = jax.jit(jax.value_and_grad(objective, has_aux=True))
  (loss, out), gradient = run(params, {}, batch, total)
  assert float(loss) == pytest.approx(float(out["loss/margin"].value()))
  assert "policy/entropy" in out
  assert any(np.any(np.asarray(x)) for x in jax.tree.leaves(gradient))


def test_a_task(load, monkeypatch):
  made = load("jaxvlm/tasks/sums.py")
  monkeypatch.setattr(tasks, "sums", made, raising=False)
  entry = load("jaxvlm/tools/problems.py").ENTRY
  monkeypatch.setattr(problems, "_KNOWN", {**problems._KNOWN, **entry})
  with sets.of_task(Wanted("sums"), 3) as asked:
    rows, count = asked.sets["validation"]
    assert (len(rows), count) == (3, 3)
    answers = [rf"It is \boxed{{{row.reference}}}." for row in rows[:2]]
    found = score(asked.task, [*answers, "42"], rows)
  assert found["accuracy"].tolist() == [1, 1, 0]
  assert asked.task.answer(answers[0]) == "1007"
  with pytest.raises(ValueError, match="expected one of"):
    made.task().rows("test")


def test_a_family(load, monkeypatch, tmp_path):
  family = load("jaxvlm/models/acorn.py").FAMILY
  monkeypatch.setitem(models.FAMILIES, "acorn", family)
  config = dataclasses.replace(
    tiny.TEXTS["llama"],
    model_type="acorn",
    qkv_bias=False,
    o_bias=False,
    mlp_bias=False,
  )
  params = jax.tree.map(np.asarray, tiny.params(config))
  models.save_pretrained(tmp_path / "acorn", config, params)
  stored = json.loads((tmp_path / "acorn/config.json").read_text())
  assert stored["model_type"] == "acorn"
  assert stored["architectures"] == ["AcornForCausalLM"]
  read, loaded = models.load_pretrained(tmp_path / "acorn")
  assert read == config
  jax.tree.map(np.testing.assert_array_equal, loaded, params)
  model = models.bind(read)
  batch = tiny.text_batch()
  shape = jax.eval_shape(model.forward, loaded, batch)
  assert shape.shape == (*batch.tokens.shape, config.hidden_size)


def test_an_experiment(tmp_path):
  folder = write(tmp_path, "experiments/mine/run.py").parent
  study = (ROOT / "tests/study/toy_study.py").read_text()
  (folder / "study.py").write_text(study)
  for package in (folder, folder.parent):
    (package / "__init__.py").touch()
  done = subprocess.run(
    [sys.executable, "-m", "experiments.mine.run", "--help"],
    cwd=tmp_path,
    env=compiling.environment(PYTHONPATH=str(ROOT)),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith("usage: toy [--flags]\n\nIs a longer SFT")
  assert "\nFlags of grpo\n  --grpo.steps=2 " in done.stdout
