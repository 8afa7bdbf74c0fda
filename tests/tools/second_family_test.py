"""Commands on a folder of the second family with pictures, as a user types.

Trained, exported, loaded again, asked, measured: in each other's footsteps.
"""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxvlm import journal, models
from jaxvlm.data import images
from jaxvlm.rollout.answer import Request
from jaxvlm.sampling import Sampling
from jaxvlm.tools import folder as folders
from tests import compiling
from tests.models import qwen3_vl_folders
from tests.tools import own_rows

pytestmark = pytest.mark.slow
QUESTION, LENGTH = "What is 1 and 1?", 12


def jaxvlm(command, *flags):
  """Returns what a command prints."""
  done = subprocess.run(
    [sys.executable, "-m", "jaxvlm.tools.main", command, *map(str, flags)],
    env=compiling.environment(),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-4000:]
  return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  where = tmp_path_factory.mktemp("model")
  qwen3_vl_folders.write(where)
  return where


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
  """Two rows, each with a picture of its own size."""
  return own_rows.write(tmp_path_factory.mktemp("rows"), 2, first=1)


@pytest.fixture(scope="module", params=["all", "adapters"])
def trained(request, folder, rows, tmp_path_factory):
  """Two steps of SFT, all parameters or adapters: (log, exported folder)."""
  work = tmp_path_factory.mktemp(request.param)
  form = [] if request.param == "all" else ["--lora_rank=2"]
  said = jaxvlm(
    "train",
    "--objective=sft",
    f"--model_dir={folder}",
    f"--data={rows}",
    f"--workdir={work}",
    "--steps=2",
    "--prompts=2",
    "--lr=0.01",
    "--optimizer.weight_decay=0",
    *form,
  )
  (exports,) = (x for x in said.splitlines() if x.startswith("jaxvlm export"))
  jaxvlm(*exports.split()[1:])
  return journal.read(work / "seed-0/run/sft/metrics.jsonl"), work / "model"


def test_training_teaches_and_moves_every_tensor(trained, folder):
  log, out = trained
  first, last = (record["loss/nll"] for record in log if "loss/nll" in record)
  assert last < first
  config, before = models.load_pretrained(folder)
  again, after = models.load_pretrained(out)
  assert again == config
  moved = jax.tree.map(lambda x, y: bool(np.any(x != y)), before, after)
  still = [
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, any_moved in jax.tree.leaves_with_path(moved)
    if not any_moved
  ]
  adapters = out.parent.name.startswith("adapters")
  # Adapters change matrices alone.
  assert all(not name.endswith("kernel") for name in still)
  assert bool(still) == adapters, still


def test_an_exported_folder_answers_as_transformers_does(trained, rows):
  """Same pictures, same greedy tokens, and what `jaxvlm sample` prints."""
  from tests.reference import hf

  _, out = trained
  picture = images.load(rows.parent / "1.png")
  model = folders.load(str(out))
  patches, grid = images.patchify(
    model.config.layout, picture, *model.chat.pictures
  )
  ids = np.array([model.chat.prompt(QUESTION, [grid])])
  inputs = hf.Inputs(ids, np.ones_like(ids), patches, np.array([grid]))
  theirs, report = hf.auto_class(model.config).from_pretrained(
    out, dtype=hf.torch.float32, output_loading_info=True
  )
  assert not any(report.values()), report
  # Rows of the vocabulary that the tokenizer has no text for are never drawn.
  silent = range(model.chat.vocab_size, model.config.vocab_size)
  want = theirs.generate(
    **inputs.torch(model.config),
    max_new_tokens=LENGTH,
    do_sample=False,
    suppress_tokens=list(silent),
  )
  request = Request(
    QUESTION,
    (np.asarray(picture),),
    sampling=Sampling(0.0),
    max_new_tokens=LENGTH,
  )
  words = list(model.answer(request))
  assert [word.token for word in words] == want[0, ids.size :].tolist()
  said = jaxvlm(
    "sample",
    f"--model_dir={out}",
    f"--prompt={QUESTION}",
    f"--image={rows.parent / '1.png'}",
    f"--max_new_tokens={LENGTH}",
    "--temperature=0",
  )
  assert said.strip() == "".join(word.text for word in words).strip()


def test_an_exported_folder_is_measured_against_its_beginning(
  trained, folder, rows, tmp_path
):
  _, out = trained
  said = jaxvlm(
    "evaluate",
    f"--model_dir={out}",
    f"--against={folder}",
    f"--data={rows}",
    "--samples=2",
    "--batch=2",
    f"--max_new_tokens={LENGTH}",
    f"--out={tmp_path}",
  )
  assert "rows: 2 problems × 2 samples, 2 asked for" in said
  for place, model in (("rows", out), ("against/rows", folder)):
    record = json.loads((tmp_path / f"{place}.json").read_text())
    assert (record["asked"], record["dropped"]) == (2, [])
    assert record["model"] == models.fingerprint(model)
    assert record["patch_slots"] == [64]
