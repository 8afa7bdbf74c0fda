"""`jaxvlm train` on a user's rows: trained, resumed, reported, or refused."""

import dataclasses
import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxvlm import journal, models
from jaxvlm.data import own
from jaxvlm.data import rows as rows_lib
from jaxvlm.sharding import MeshConfig, make_mesh
from jaxvlm.study import main as studies
from jaxvlm.study import problems
from jaxvlm.tools.training import run as runs
from jaxvlm.tools.training.config import DataConfig, RunConfig
from jaxvlm.tools.training.recipes import RECIPES
from jaxvlm.train.optimizer import OptimizerConfig
from jaxvlm.train.trained import load_trained
from tests import tiny
from tests.tools import own_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("model")
  tiny.write_folder(folder, tiny.corpus())
  return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
  folder = tmp_path_factory.mktemp("rows")
  own_rows.write(folder)
  own_rows.write(folder, 3, "held.jsonl", 30)
  (folder / "rewards.py").write_text(own_rows.REWARD)
  return folder


def settings(objective, model, rows, *, teacher="", reward="", **stage):
  fast = OptimizerConfig(peak_lr=1e-2)
  small = {"steps": 3, "prompts": 4, "optimizer": fast, **stage}
  return RunConfig(
    objective=objective,
    model_dir=str(model),
    teacher_dir=str(teacher),
    reward=reward,
    data=DataConfig(path=str(rows / "rows.jsonl")),
    checkpoint_every=1,
    keep_checkpoints=3,
    mesh=MeshConfig(),
    stage=replace(RECIPES[objective].stage, **small),
  )


def execute(config, workdir):
  prepared = runs.prepare(config)
  return studies.execute(runs.study(prepared), prepared.config, workdir)


@pytest.fixture(scope="module")
def finished(model, rows, tmp_path_factory):
  """A finished run of SFT; programs are kept for its second start."""
  cache = tmp_path_factory.mktemp("programs")
  jax.config.update("jax_compilation_cache_dir", str(cache))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  # Batches of two leave two buckets.
  config = settings("sft", model, rows, prompts=2)
  held = replace(
    config.evaluation, path=str(rows / "held.jsonl"), samples=1, prompts=2
  )
  config = replace(config, evaluation=held)
  workdir = tmp_path_factory.mktemp("sft")
  assert execute(config, workdir) == workdir / "report.html"
  yield config, workdir
  jax.config.update("jax_compilation_cache_dir", None)


STAGE = "seed-0/run/sft"


def trained(workdir):
  mesh = make_mesh(MeshConfig(), jax.devices()[:1])
  rules = models.family_of(tiny.CONFIG).rules
  return load_trained(workdir / STAGE / "checkpoints", mesh, rules)


def test_it_trains_measures_and_reports(finished):
  _, workdir = finished
  log = journal.read(workdir / STAGE / "metrics.jsonl")
  assert [record["step"] for record in log] == [0, 1, 2, 3]
  assert log[3]["eval/held_out/loss/nll"] < log[0]["eval/held_out/loss/nll"]
  page = (workdir / "report.html").read_text()
  for said in ("held_out_loss_nll", "What is 3", "not scored", "peak"):
    assert said in page
  stored = json.loads((workdir / "config.json").read_text())
  # What the settings left open is found from the rows, and stored.
  assert len(stored["data"]["prompt_tokens"]) == 2
  assert stored["data"]["max_new_tokens"]
  assert (workdir / "dropped.jsonl").read_text() == ""


def test_held_out_loss_is_that_of_every_row_once(finished):
  """Three rows in batches of two, of several buckets: by hand, in float64."""
  config, workdir = finished
  prepared = runs.prepare(config)
  data, chat = prepared.config.data, prepared.student.chat
  found, params = models.load_pretrained(config.model_dir)
  bound, total, count = models.bind(found), 0.0, 0
  forward = jax.jit(bound.forward)
  encoder = problems.make_encoder(data, chat)
  for row in prepared.held_out.rows:
    bucket = encoder.buckets[rows_lib.bucket_of(row, encoder)]
    host = rows_lib.make_batch([row], None, bucket, encoder)
    hidden = np.asarray(forward(params, host.batch)[0, 0], np.float64)
    logits = hidden @ np.asarray(bound.head(params), np.float64)
    logits = logits[:, : chat.vocab_size]
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    ids, learned = host.batch.tokens[0, 0], host.batch.mask[0, 0]
    total -= logits[np.arange(len(ids)), ids][learned].sum()
    count += learned.sum()
  log = journal.read(workdir / STAGE / "metrics.jsonl")
  measured = log[0]["eval/held_out/loss/nll"]
  assert measured == pytest.approx(total / count, rel=1e-5)


@pytest.mark.slow
def test_an_interrupted_run_ends_to_the_bit(finished, tmp_path):
  config, workdir = finished
  again = tmp_path / "again"
  shutil.copytree(workdir, again)
  for manifest in (again / STAGE / "checkpoints").glob("manifest-*[23].json"):
    manifest.unlink()
  (again / "report.html").unlink()
  execute(config, again)
  assert (again / "report.html").is_file()
  one, other = trained(workdir), trained(again)
  assert one[:2] == other[:2] and one[0] == 3
  jax.tree.map(np.testing.assert_array_equal, one[2], other[2])
  logs = [journal.read(w / STAGE / "metrics.jsonl") for w in (workdir, again)]
  for a, b in zip(*logs, strict=True):
    apart = {k for k in a if a[k] != b[k]} | (a.keys() ^ b.keys())
    assert all(name.startswith("time/") for name in apart)


def test_other_settings_in_its_folder_are_refused(finished):
  config, workdir = finished
  stage = replace(config.stage, label_smoothing=0.1)
  with pytest.raises(ValueError, match="label_smoothing is 0.0 there, 0.1"):
    execute(replace(config, stage=stage), workdir)


FAST = ("sft", "dpo", "grpo")


@pytest.mark.parametrize(
  "objective",
  [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
    for name in RECIPES
  ],
)
def test_every_objective_reads_the_rows_and_says_so(
  objective, model, rows, tmp_path
):
  recipe = RECIPES[objective]
  config = settings(
    objective,
    model,
    rows,
    teacher=model if recipe.teacher else "",
    reward=f"{rows}/rewards.py:reward" if recipe.scored else "",
  )
  prepared = runs.prepare(config)
  path = studies.execute(
    runs.study(prepared), prepared.config, tmp_path / "run", dry_run=True
  )
  assert not path.exists()
  said = prepared.said
  assert "rows: 20 of" in said and "layout 'rows'" in said
  assert "bucket 1:" in said and "padding:" in said
  assert "What is 0 and 1?<|im_end|>" in said
  assert ("<think>0+1=1" in said) is not recipe.sampled
  assert ("<think>0</think>" in said) is (recipe.form is own.pairs)


def test_rows_of_text_share_streams_and_the_gain_is_told(model, rows, tmp_path):
  """Of 20 rows five have no picture."""
  config = changed(settings("sft", model, rows), "data", pack=256)
  prepared = runs.prepare(config)
  studies.execute(
    runs.study(prepared), prepared.config, tmp_path / "run", dry_run=True
  )
  assert "packing: 20 rows in 16 streams, " in prepared.said
  assert len(prepared.learned) == 16 and len(prepared.rows.rows) == 20
  # Those with pictures now have long streams, too: here nothing is gained.
  assert "% more positions" in prepared.said
  assert prepared.config.data.max_new_tokens > 100
  with pytest.raises(ValueError, match="data.pack is 256 beside --plan"):
    studies.execute(
      runs.study(prepared),
      prepared.config,
      tmp_path / "run",
      dry_run=True,
      plan="v5e:2x2",
    )


def changed(config, section="", **changes):
  if section:
    inner = getattr(config, section)
    changes = {section: dataclasses.replace(inner, **changes)}
  return dataclasses.replace(config, **changes)


@pytest.mark.parametrize(
  "objective,section,changes,said",
  [
    ("sft", "data", {"path": ""}, "data is empty"),
    ("sft", "data", {"path": "/no/rows.jsonl"}, "/no/rows.jsonl"),
    ("sft", "data", {"layout": "alpaca"}, "layout 'alpaca' is not known"),
    ("sft", "data", {"columns": ("question",)}, "data.columns is question"),
    ("sft", "data", {"max_new_tokens": 2}, "none of 20 rows"),
    ("sft", "data", {"max_new_tokens": 900}, "expected at most 512"),
    ("dpo", "data", {"pack": 64}, "data.pack is 64, expected 0, or for sft"),
    ("sft", "data", {"pack": 64, "max_new_tokens": 32}, "pack is 64, expected"),
    ("sft", "stage", {"steps": 0}, "^steps is 0"),
    ("sft", "stage", {"label_smoothing": 2.0}, "label_smoothing is 2.0"),
    ("sft_c", "stage", {"weight": -1.0}, "weight is -1.0"),
    ("dpo", "stage", {"beta": 0.0}, "beta is 0.0"),
    ("cw_dpo", "stage", {"tau": 0.0}, "tau is 0.0"),
    ("focal_dpo", "stage", {"gamma": -1.0}, "gamma is -1.0"),
    ("grpo", "stage", {"clip_low": 2.0}, "clip_low is 2.0"),
    ("grpo", "", {"reward": ""}, "reward is empty.*answer, answer_checked"),
    ("grpo", "", {"reward": "nobody:f"}, "'nobody:f'.*cannot be imported"),
    ("opd", "", {"teacher_dir": ""}, "teacher_dir is ''.*teacher's folder"),
    ("sft", "", {"teacher_dir": "nano-teacher"}, "teacher_dir .*expected none"),
    ("opd", "", {"teacher_dir": "nano-teacher"}, "different vocabularies"),
    ("sft", "", {"model_dir": "nano-bas"}, "no folder nano-bas"),
    ("opd", "evaluation", {"path": "x"}, "eval_data is given and reward"),
  ],
)
def test_what_cannot_run_is_refused(
  objective, section, changes, said, model, rows, tmp_path
):
  config = settings(
    objective,
    model,
    rows,
    teacher=model if RECIPES[objective].teacher else "",
    reward="geometry3k" if objective == "grpo" else "",
  )
  with pytest.raises((ValueError, OSError), match=said):
    prepared = runs.prepare(changed(config, section, **changes))
    studies.execute(
      runs.study(prepared), prepared.config, tmp_path, dry_run=True
    )


@pytest.mark.parametrize(
  "objective,lacks,said",
  [
    ("sft", "response", "none of 20 records.*SFT"),
    ("dpo", "rejected", "none of 20 records.*no rejected answer"),
    ("grpo", "answer", "none of 20 records.*no answer"),
  ],
)
def test_rows_without_what_the_objective_needs(
  objective, lacks, said, model, rows, tmp_path
):
  lines = (rows / "rows.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  for record in records:
    del record[lacks]
  (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, records)))
  config = settings(objective, model, tmp_path, reward="geometry3k")
  config = changed(config, "data", pictures=str(rows))
  with pytest.raises(ValueError, match=said):
    runs.prepare(config)
