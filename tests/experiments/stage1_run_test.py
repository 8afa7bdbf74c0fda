"""The study's command: killed and resumed, in a cluster, misused."""

import contextlib
import json
import random
import re
import shutil
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxvlm import distributed, journal
from jaxvlm.data import diagrams
from jaxvlm.data.sources.world import WorldRows
from jaxvlm.eval.harness import Evaluation
from jaxvlm.train import manifest
from tests import tiny
from tests.experiments.stage1_command import HANGS_S, TINY
from tests.train import runs


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """Returns the flags of a random student and a random teacher."""
  folder = tmp_path_factory.mktemp("models")
  for seed, name in enumerate(("model", "teacher")):
    tiny.write_folder(folder / name, tiny.corpus(), seed=seed)
  return tuple(f"--{name}_dir={folder / name}" for name in ("model", "teacher"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, finish, models):
  folder = tmp_path_factory.mktemp("undisturbed")
  code, output = finish(*TINY, *models, f"--workdir={folder}")
  assert code == 0, output
  assert output.splitlines()[-1] == str(folder / "report.html")
  return folder


STAGES = [
  f"seed-0/{arm}/{stage}"
  for arm in ("sft_early", "opd")
  for stage in ("stage1", "grpo")
]


def contents(folder):
  """Returns everything that must not depend on kills, bit by bit."""
  found = {}
  for stage in STAGES:
    where = folder / stage
    found[stage, "log"] = [
      {k: v for k, v in record.items() if not k.startswith("time/")}
      for record in journal.read(where / "metrics.jsonl")
    ]
    arrays = ocp.StandardCheckpointer().restore(where / "checkpoints" / "3")
    found[stage, "state"] = {
      name: (str(x.dtype), x.shape, np.asarray(x).tobytes())
      for name, x in arrays.items()
    }
    for path in sorted((where / "eval").glob("*.npz")):
      with np.load(path, allow_pickle=False) as arrays:
        found[stage, path.name] = {k: v.tobytes() for k, v in arrays.items()}
  for path in sorted(folder.rglob("samples.json")):
    found[str(path.relative_to(folder))] = path.read_text()
  return found


def lines(folder):
  """Returns how many steps and evaluations are logged so far.

  Each log is asked for by name: the folders around it live, and a walk would
  meet files of a save that are gone when it looks at them.
  """
  found = 0
  for stage in STAGES:
    with contextlib.suppress(FileNotFoundError):
      found += (folder / stage / "metrics.jsonl").read_bytes().count(b"\n")
  return found


@pytest.mark.slow
def test_what_a_study_leaves_behind(undisturbed):
  found = contents(undisturbed)
  for stage in STAGES:
    log = found[stage, "log"]
    assert [r["step"] for r in log] == [0, 1, 2, 3]
    assert ["eval/in_domain/pass@2" in r for r in log] == [True, False, True,
                                                           True]  # fmt: skip
    assert "eval/out_of_domain/accuracy" in log[0]
    assert all(np.isfinite(r["loss/total"]) for r in log[1:])
    assert {f"in_domain-{s:05d}.npz" for s in (0, 2, 3)} <= {
      key[1] for key in found if key[0] == stage
    }
  opd, grpo = (found[f"seed-0/opd/{s}", "log"][1] for s in ("stage1", "grpo"))
  assert {"loss/opd", "policy/kl_teacher_sampled", "rollout/entropy"} <= set(
    opd
  )
  assert {"reward/mean", "reward/degenerate_groups", "policy/kl_ref"} <= set(
    grpo
  )
  for record in (opd, grpo):
    assert record["rollout/logprob_gap"] < 1e-4
    assert record["rollout/logprob_kl"] < 1e-6
    assert record["rollout/alarm"] == 0
  # Parameters moved in every stage, and GRPO began where Stage 1 ended.
  first, second = (found[s, "state"] for s in STAGES[:2])
  head = next(n for n in first if re.match("trainable.*embed_tokens", n))
  assert first[head] != second[head]
  a, b = (
    undisturbed / stage / "eval" / f"in_domain-{step:05d}.npz"
    for stage, step in zip(STAGES[:2], (3, 0), strict=True)
  )
  with np.load(a) as before, np.load(b) as after:
    before, after = map(Evaluation.from_arrays, map(dict, (before, after)))
  np.testing.assert_array_equal(before.entropies, after.entropies)
  report = (undisturbed / "report.html").read_text()
  assert "<html" in report
  config = json.loads((undisturbed / "config.json").read_text())
  assert config["opd"]["steps"] == 3 and "--arms" in config["command"]


@pytest.mark.slow
def test_pictures_of_different_size_are_compiled_once(undisturbed):
  sizes = {r.images[0].shape for r in WorldRows(diagrams.SFT_TRACES, 5)}
  assert len(sizes) > 1
  for stage in STAGES:
    counts = [
      record["time/compiles"]
      for record in journal.read(undisturbed / stage / "metrics.jsonl")
      if "time/compiles" in record
    ]
    assert len(counts) == 3
    assert len(set(counts)) == 1, (stage, counts)


@pytest.mark.slow
def test_a_study_killed_at_random_moments_ends_bit_equal(
  tmp_path, start, finish, models, undisturbed
):
  # The kill is what is tested, not the compiler.
  shutil.copytree(undisturbed / "xla", tmp_path / "xla")
  arguments = (*TINY, *models, f"--workdir={tmp_path}")
  rng = random.Random(0)
  kills = []
  for goal in sorted(rng.sample(range(1, 16), 3)):
    process = start(*arguments)
    while lines(tmp_path) < goal and process.is_alive():
      time.sleep(0.005)
    time.sleep(rng.random() * 0.3)
    process.kill()
    process.join()
    kills.append((process.exitcode, lines(tmp_path)))
  assert [code for code, _ in kills].count(-9) >= 2, kills
  code, output = finish(*arguments)
  assert code == 0, output
  assert contents(tmp_path) == contents(undisturbed)


@pytest.mark.slow
def test_an_interrupted_study_goes_on_where_it_was(
  tmp_path, finish, models, undisturbed
):
  """What is finished is not run again; the rest ends bit-equal."""
  study = tmp_path / "study"
  shutil.copytree(undisturbed, study)
  cut = study / "seed-0" / "opd" / "grpo"
  # As after a kill in the last step of the last arm.
  shutil.rmtree(cut / "checkpoints" / "3")
  manifest.location(cut / "checkpoints", 3).unlink()
  (cut / "samples.json").unlink()
  (study / "report.html").unlink()
  finished = {
    p: p.stat().st_mtime_ns
    for p in study.rglob("seed-*/**/*")
    # A log is cut to the restored step: to what it was.
    if p.is_file() and cut not in p.parents and p.name != "metrics.jsonl"
  }
  code, output = finish(*TINY, *models, f"--workdir={study}")
  assert code == 0, output
  assert contents(study) == contents(undisturbed)
  assert (study / "report.html").is_file()
  for path, modified in finished.items():
    assert path.stat().st_mtime_ns == modified, path


@pytest.mark.slow
def test_other_settings_in_the_same_folder_are_refused(
  finish, models, undisturbed
):
  before = contents(undisturbed)
  code, output = finish(
    *TINY, *models, f"--workdir={undisturbed}", "--grpo.optimizer.peak_lr=0.1"
  )
  assert code != 0
  assert re.search(
    r"other settings: grpo\.optimizer\.peak_lr is .* there, 0\.1 here",
    output,
  )
  assert contents(undisturbed) == before


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--workdir=/proc/study"], r"/proc/study/xla: .*can be written"),
    (["--model_dir=/nowhere"], r"stage1_entropy: .*/nowhere.*expected"),
    (["--teacher_dir=/nowhere"], r"stage1_entropy: .*/nowhere.*expected"),
    (["--arms=sft,opd"], r"stage1_entropy: arms \['sft'\] are not known.*base"),
    (["--arms="], r"stage1_entropy: arms .*expected some of"),
    (["--grpo.group=1"], r"grpo\.group is 1, expected at least 2"),
    (["--opd.group=0"], r"group is 0"),
    (["--opd.prompts=0"], r"opd\.prompts|batch size 0"),
    (["--evaluation.every=0"], r"evaluation\.every"),
    (["--grpo.slots.rows=0"], r"grpo\.carry is 1 with grpo\.slots\.rows 0"),
    (["--grpo.carry=3"], r"grpo\.carry is 3.*expected 0 … 2"),
    (["--grpo.slots.width=0"], r"grpo\.slots\.width is 0"),
    (["--lora_rank=-1"], r"lora_rank is -1, expected at least 0"),
    (
      ["--grpo.groups=4"],
      r"no flag --grpo\.groups; did you mean --grpo\.group\?",
    ),
    (["--grpo.steps=many"], r"grpo\.steps.*'many'.*int"),
    (["extra"], r"unexpected 'extra'"),
    (["--scale=galaxy"], r"galaxy.*laptop.*colab.*pod"),
    (
      ["--distributed.process_count=2"],
      r"stage1_entropy: .*expected host:port",
    ),
    (
      ["--distributed.auto", "--distributed.process_id=1"],
      r"stage1_entropy: .*give one or the other",
    ),
    (["--mesh.tensor=7"], r"stage1_entropy: .*mesh\.tensor is 7.*1 device"),
    (
      ["--dataset=geometry3k", "--data_dir=/nowhere"],
      r"stage1_entropy: data_dir is '/nowhere', expected a folder",
    ),
    (["--data.patch_slots=64,128"], r"data\.prompt_tokens has 1 buckets"),
    (["--data.prompt_tokens=8"], r"none of 5 rows is usable.*raise"),
    (
      ["--grpo.micro_batches=3"],
      r"grpo\.prompts is 2.*multiple.*micro_batches",
    ),
  ],
  ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_misuse_is_named_before_the_first_step(
  tmp_path, finish, models, arguments, message
):
  code, output = finish(*TINY, *models, f"--workdir={tmp_path}", *arguments)
  assert code not in (0, None)
  assert re.search(message, output, re.S) and "Traceback" not in output, output
  assert not list(tmp_path.rglob("metrics.jsonl")), output


@pytest.mark.slow
def test_two_processes_run_the_study_of_one(tmp_path, start, models):
  # Completions are carried over within one process only.
  flags = [f for f in TINY if "carry" not in f and "slots" not in f]
  logs = {}
  with runs.free_port() as port:
    for count in (1, 2):
      workdir = tmp_path / str(count)
      cluster = [
        f"--distributed.coordinator_address=localhost:{port}",
        f"--distributed.process_count={count}",
      ]
      processes = [
        start(
          *flags,
          *models,
          f"--workdir={workdir}",
          *([*cluster, f"--distributed.process_id={i}"] if count > 1 else ()),
        )
        for i in range(count)
      ]
      for process in processes:
        process.join(HANGS_S)
        assert process.exitcode == 0, process.log.read_text()
      assert (workdir / "report.html").is_file()
      logs[count] = {
        stage: journal.read(workdir / stage / "metrics.jsonl")
        for stage in STAGES
      }
  for stage in STAGES:
    one, two = logs[1][stage], logs[2][stage]
    assert [r["step"] for r in one] == [r["step"] for r in two]
    assert [r.keys() for r in one] == [r.keys() for r in two]
    if stage.endswith("grpo"):  # no reward: its loss is rounding alone
      continue
    for a, b in zip(one[1:], two[1:], strict=True):
      assert b["loss/total"] == pytest.approx(a["loss/total"], rel=1e-5)
      assert b["grad/norm"] == pytest.approx(a["grad/norm"], rel=1e-4)


def test_a_coordinator_that_never_comes_is_worth_another_start(
  tmp_path, finish, models
):
  code, output = finish(
    *TINY,
    *models,
    f"--workdir={tmp_path}",
    "--distributed.coordinator_address=localhost:1",
    "--distributed.process_count=2",
    "--distributed.process_id=1",
    "--distributed.timeout_s=1",
  )
  assert code == distributed.PEER_LOST, output
  assert "localhost:1 does not answer for 1 s" in output


def test_models_of_different_vocabularies_are_refused(tmp_path, finish, models):
  other = tmp_path / "other"
  tiny.write_folder(other, tiny.corpus(), vocab_size=480)
  code, output = finish(*TINY, models[0], f"--teacher_dir={other}",
                        f"--workdir={tmp_path}")  # fmt: skip
  assert code != 0
  assert re.search(r"different vocabularies \(512 and 480 tokens\)", output)


def test_dry_run_of_the_laptop_checks_and_trains_nothing(
  tmp_path, finish, models
):
  flags = "--dry_run", "--data.train_problems=200", f"--workdir={tmp_path}"
  code, output = finish(*models, *flags)
  assert code == 0, output
  assert "usable" in output
  assert not list(tmp_path.rglob("seed-*"))
