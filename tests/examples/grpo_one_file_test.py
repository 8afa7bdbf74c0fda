"""The page that explains GRPO takes the study's own steps."""

import dataclasses
import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from experiments.stage1_entropy import arms, config, problems
from jaxvlm import assets, journal
from jaxvlm.sharding import MeshConfig, make_mesh
from jaxvlm.study import folders, programs
from jaxvlm.study.lab import Lab

PAGE = pathlib.Path(__file__).parents[2] / "examples/grpo_one_file.py"
PROMPTS, GROUP, STEPS, PROBLEMS = 4, 4, 3, 64
replace = dataclasses.replace


def load():
  spec = importlib.util.spec_from_file_location("grpo_one_file", PAGE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def study(workdir):
  """Returns what the study logs of the same steps."""
  c = config.laptop()
  c = replace(
    c,
    grpo=replace(c.grpo, prompts=PROMPTS, group=GROUP, steps=STEPS),
    data=replace(c.data, traces=1, train_problems=PROBLEMS),
    evaluation=replace(c.evaluation, in_domain=1, out_of_domain=0),
  )
  student = folders.read(assets.folder("nano-base"))
  known = problems.load(c, student.chat)
  compiled = arms.make_programs(c, student, student)
  lab = Lab(
    config=c,
    mesh=make_mesh(MeshConfig()),
    problems=replace(known, evaluation=()),
    model=student.config,
    evaluate=compiled.evaluate,
    identity={"run": "x"},
    seed=0,
    workdir=workdir,
  )
  with jax.set_mesh(lab.mesh):
    base = programs.load_student(c, lab.mesh, student)
    arms.stage2(lab, compiled, "base", base)
  names = ("loss/total", "reward/mean", "policy/entropy")
  log = journal.read(workdir / "base/grpo/metrics.jsonl")
  return [[r[name] for name in names] for r in log if r["step"]]


@pytest.mark.slow  # a minute: two samplers and two train steps are compiled
def test_the_first_steps_are_the_studys(tmp_path, monkeypatch):
  page = load()
  assert len(PAGE.read_text().splitlines()) <= 150
  monkeypatch.setattr(page, "PROBLEMS", PROBLEMS)
  found = list(page.train(PROMPTS, GROUP, STEPS))
  expected = study(tmp_path)
  assert len(found) == len(expected) == STEPS
  assert len({loss for loss, *_ in found}) == STEPS
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
