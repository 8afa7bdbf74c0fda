"""`jaxvlm evaluate`: what is measured is what was asked for, and is stored."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxvlm import program
from jaxvlm.eval.harness import Evaluation
from tests import compiling
from tests.tools import own_rows

# Runs every command line in one process with eight devices; then answers a
# question on one device and on all of them.
PROGRAM = """
import contextlib, io, json, sys
import jax
from absl import flags
from absl.testing import flagsaver
from jaxvlm import program
from jaxvlm.rollout.answer import Request
from jaxvlm.sampling import Sampling
from jaxvlm.sharding import MeshConfig
from jaxvlm.tools import compute, evaluate, folder
program.hush("evaluate", verbose=False)
said = []
for words in json.loads(sys.argv[1]):
  text, error = io.StringIO(), ""
  with flagsaver.flagsaver(), contextlib.redirect_stdout(text):
    try:
      flags.FLAGS(["evaluate", *words])
      evaluate.main()
    except (ValueError, OSError) as e:
      error = str(e)
  said.append([text.getvalue(), error])
request = Request("Find x.", n=2, sampling=Sampling(0.0), max_new_tokens=5)
answers = []
for sizes in ((1, 1, 1), (2, 2, 2)):
  mesh = compute.make_mesh(compute.ComputeConfig(mesh=MeshConfig(*sizes)))
  with jax.set_mesh(mesh):
    model = folder.load("nano-base", mesh=mesh)
    answers.append([w.token for w in model.answer(request)])
    spread = {len(x.sharding.device_set) for x in jax.tree.leaves(model.params)}
    answers.append(sorted(spread))
print(json.dumps([said, answers]))
"""
SHORT = ["--samples=2", "--max_new_tokens=6"]
WORLD = [*SHORT, "--problems=3", "--batch=4"]
LONG = "<think>" + "so it goes " * 60 + "</think> \\boxed{3}"


def write_split(folder, count):
  records = []
  for i in range(count):
    gray = np.full((56, 56, 3), 40 * i, np.uint8)
    Image.fromarray(gray).save(folder / f"{i}.png")
    record = {"id": i, "image": f"{i}.png", "problem_text": "What is x?"}
    records.append({**record, "answer": "3", "response": LONG})
  text = "\n".join(map(json.dumps, records))
  (folder / "val.jsonl").write_text(text)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  """name -> (stdout, error, folder of results); "answers" -> tokens."""
  work = tmp_path_factory.mktemp("evaluate")
  write_split(work, 4)
  data = f"--data_dir={work}"
  (work / "mine").mkdir()
  rows = own_rows.write(work / "mine", 4)
  (work / "rewards.py").write_text(own_rows.REWARD)
  own = [f"--data={rows}", *SHORT, "--batch=2"]
  lines = {
    "world": WORLD,
    "own": [*own, f"--reward={work}/rewards.py:reward", "--against=nano-base",
            f"--json={work}/own.json"],
    "two sources": [*own, "--task=world"],
    "no reward": [*own, "--reward=nobody:f"],
    "no folder": ["--task=mathvista"],
    "a folder": ["--task=world", data],
    "mesh": [*WORLD, "--mesh.data=2", "--mesh.fsdp=2", "--mesh.tensor=-1",
             "--json=-"],
    "bfloat16": [*WORLD, "--bfloat16", "--max_pixels=6272"],
    "all": [data, *SHORT, "--batch=2", "--problems=-1", "--prompt_tokens=99"],
    "more": [data, "--problems=5"],
    "allowed": [data, "--problems=5", "--max_missing=0.2", "--batch=3",
                "--mesh.fsdp=2"],
    "none": [data, "--problems=0"],
    "minus two": [data, "--problems=-2"],
    "endless": ["--problems=-1"],
    "two and one": [data, "--prompt_tokens=99", "--patch_slots=8,16"],
    "no number": [data, "--prompt_tokens=99", "--patch_slots=many"],
    "too small": [data, "--prompt_tokens=99", "--patch_slots=8"],
    "too long": [data, "--max_new_tokens=5000"],
    "too hot": [data, "--temperature=-1"],
    "nowhere": ["--model_dir=nano-bas"],
    "one split": [data, "--split=test"],
    "too many": [*WORLD, "--mesh.data=3", "--mesh.fsdp=3"],
  }  # fmt: skip
  for name, line in lines.items():
    line.append(f"--out={work / name}")
  environment = compiling.environment(JAX_NUM_CPU_DEVICES="8")
  platforms = environment.pop("JAX_PLATFORMS", None)
  if program.may_have_accelerator(None, environment, pathlib.Path("/dev")):
    environment["JAX_PLATFORMS"] = platforms or "cpu"
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM, json.dumps(list(lines.values()))],
    env=environment,
    capture_output=True,
    text=True,
    cwd=os.getcwd(),
  )
  assert done.returncode == 0, done.stderr
  # A TPU compiler that is installed and finds no TPU says nothing.
  assert "TPU" not in done.stderr, done.stderr
  said, answers = json.loads(done.stdout.splitlines()[-1])
  out = {
    name: (*pair, work / name) for name, pair in zip(lines, said, strict=True)
  }
  return {**out, "answers": answers}


def stored(found, name, problems):
  """Returns (evaluation, record) of a run."""
  text, error, folder = found[name]
  assert not error and text
  with np.load(folder / f"{problems}.npz", allow_pickle=False) as arrays:
    evaluation = Evaluation.from_arrays(arrays)
  return evaluation, json.loads((folder / f"{problems}.json").read_text())


def test_asked_found_and_digest_are_printed_and_stored(found):
  for problems in ("in_domain", "out_of_domain"):
    evaluation, record = stored(found, "world", problems)
    assert evaluation.accuracy.shape == (3, 2)
    assert (record["asked"], record["found"], record["dropped"]) == (3, 3, [])
    first = f"{problems}: 3 problems × 2 samples, 3 asked for, digest "
    assert first + record["digest"][:12] in found["world"][0]
  expected = {
    "samples": 2, "temperature": 1.0, "max_new_tokens": 6, "seed": 0,
    "bfloat16": False, "mesh": {"data": 1, "fsdp": 1, "tensor": 1},
  }  # fmt: skip
  assert expected.items() <= record.items()
  assert len(record["prompt_tokens"]) == len(record["patch_slots"]) >= 1


def test_the_world_has_the_lines_that_it_always_had(found):
  lines = found["world"][0].splitlines()
  names = [line[2:18].strip() for line in lines if line.startswith("  ")]
  assert names == ["accuracy", "pass@2", "format", "entropy (nats)"] * 2


def test_own_rows_are_scored_compared_and_shown(found):
  evaluation, record = stored(found, "own", "rows")
  assert evaluation.scores.keys() == {"reward", "failed"}
  assert (record["asked"], record["task"]) == (4, "rows")
  assert record["scores"]["reward"][0] == evaluation.scores["reward"].mean()
  # The version of a user's reward is its file, and everything is digested.
  for name in ("grader", "model", "template", "prompts", "digest"):
    assert len(record[name]) == 64
  text, _, folder = found["own"]
  assert "rows: nano-base minus nano-base, paired" in text
  assert "reward            0.000   [0.000, 0.000]" in text.split("paired")[1]
  page = (folder / "rows.html").read_text()
  for said in (
    "Worst problems",
    "What is 2 and 1?",
    "data:image/png",
    "grader",
  ):
    assert said in page
  other = json.loads((folder / "against/rows.json").read_text())
  assert other["differences"]["reward"][0] == 0
  lines = (folder / "rows.responses.jsonl").read_text().splitlines()
  kept = [json.loads(line) for line in lines[1:]]
  assert {record["id"] for record in kept} == {"r0", "r1", "r2", "r3"}
  assert all(len(record["samples"]) == 2 for record in kept)


def test_json_is_what_is_stored(found):
  folder = found["own"][2]
  files = [folder / "rows.json", folder / "against/rows.json"]
  told = json.loads((folder.parent / "own.json").read_text())
  assert told == [json.loads(file.read_text()) for file in files]
  # On standard output it takes the place of the words.
  told = json.loads(found["mesh"][0])
  assert [one["name"] for one in told] == ["in_domain", "out_of_domain"]


def test_eight_devices_measure_what_one_does(found):
  one, _ = stored(found, "world", "in_domain")
  eight, record = stored(found, "mesh", "in_domain")
  assert record["mesh"] == {"data": 2, "fsdp": 2, "tensor": -1}
  assert one.answers == eight.answers
  np.testing.assert_array_equal(one.lengths, eight.lengths)
  np.testing.assert_allclose(one.entropies, eight.entropies, atol=1e-4)


def test_bfloat16_and_pixel_limits_are_taken_and_stored(found):
  one, before = stored(found, "world", "in_domain")
  half, record = stored(found, "bfloat16", "in_domain")
  assert record["bfloat16"] and record["max_pixels"] == 6272
  assert max(record["patch_slots"]) < max(before["patch_slots"])
  assert record["digest"] == before["digest"]  # the same problems
  assert not np.array_equal(one.entropies, half.entropies)


def test_a_worked_solution_decides_nothing_and_minus_one_is_all(found):
  evaluation, record = stored(found, "all", "val")
  assert evaluation.accuracy.shape == (4, 2) and record["asked"] == 4
  assert found["all"][0].startswith("val: 4 problems × 2 samples")
  # Patch slots that are not given follow from the problems: 4 × 4 patches.
  assert (record["prompt_tokens"], record["patch_slots"]) == ([99], [16])


@pytest.mark.parametrize(
  "name,texts",
  [
    ("more", ["found 4 of the 5", "only 4", "max_missing"]),
    # Fewer are allowed, so that the next thing is said: it is before weights.
    ("allowed", ["batch", "3 prompts does not divide over 2"]),
    ("none", ["problems is 0, expected at least 1, or -1"]),
    ("minus two", ["problems is -2"]),
    ("endless", ["the generated world has no end"]),
    ("two and one", ["prompt_tokens has 1 bucket", "patch_slots 2"]),
    ("no number", ["expected integers"]),
    ("too small", ["none of 4 rows is usable", "'val/0': the prompt needs"]),
    ("too long", ["answers of 5000", "max_new_tokens"]),
    ("too hot", ["temperature is -1.0"]),
    ("nowhere", ["no folder nano-bas", "nano-base, nano-teacher"]),
    ("one split", ["test.jsonl does not exist"]),
    ("two sources", ["rows.jsonl' beside a task", "expected one of"]),
    ("no reward", ["'nobody:f'", "cannot be imported"]),
    ("no folder", ["data is ''", "task mathvista needs its folder"]),
    ("a folder", ["data is ", "task world is generated"]),
    ("too many", ["mesh.data is 3", "8 device(s)"]),
  ],
)
def test_what_is_wrong_is_said(found, name, texts):
  text, error, folder = found[name]
  assert not text and not folder.exists()
  for expected in texts:
    assert expected in error


def test_answers_on_eight_devices_are_those_of_one(found):
  one, alone, eight, spread = found["answers"]
  assert one == eight and len(one) == 10
  assert alone == [1] and spread == [8]
