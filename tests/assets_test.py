"""The shipped models: small, in the Hugging Face format, and they see."""

import dataclasses
import hashlib
import json
import re

import jax
import numpy as np
import pytest

from experiments.nano import config as nano
from jaxvlm import assets
from jaxvlm.data import chat as chats
from jaxvlm.data import diagrams, folder_files, processor
from jaxvlm.data.sources.world import WorldRows
from jaxvlm.eval import harness
from jaxvlm.models.qwen2_5_vl import bind, load_pretrained
from jaxvlm.rollout import make_generate
from jaxvlm.sampling import Sampling
from jaxvlm.tasks import world

NAMES = ("nano-base", "nano-teacher")


@dataclasses.dataclass(frozen=True)
class Loaded:
  config: object
  params: object
  encoder: object


@pytest.fixture(scope="module")
def models():
  out = {}
  for name in NAMES:
    folder = assets.folder(name)
    config, params = load_pretrained(folder)
    encoder = nano.encoder(chats.load(folder, config.layout))
    out[name] = Loaded(config, params, encoder)
  return out


def _accuracy(model, rows, group=2):
  chat = model.encoder.chat
  generate = make_generate(
    bind(model.config),
    group=group,
    sampling=Sampling(),
    max_new_tokens=model.encoder.max_new_tokens,
    eos_ids=chat.eos_ids,
    pad_id=chat.pad_id,
    vocab_size=chat.vocab_size,
  )
  problems = harness.make_problem_set(
    "x", rows, model.encoder, 35, task=world.task()
  )
  result = harness.evaluate(
    problems,
    generate,
    model.params,
    jax.random.key(3),
    decode=chat.decode,
  )
  return float(result.accuracy.mean())


def _scores(name):
  return json.loads((assets.folder(name) / "scores.json").read_text())


def test_sizes(models):
  count = {
    name: sum(x.size for x in jax.tree.leaves(m.params))
    for name, m in models.items()
  }
  assert count["nano-base"] < 1_000_000
  assert 2 <= count["nano-teacher"] / count["nano-base"] <= 4
  folders = [assets.folder(name) for name in NAMES]
  size = sum(f.stat().st_size for d in folders for f in d.iterdir())
  assert size <= 10e6
  for folder in folders:
    _, stored = load_pretrained(folder, None)
    assert {str(x.dtype) for x in jax.tree.leaves(stored)} == {"bfloat16"}


@pytest.mark.parametrize("name", NAMES)
def test_card_names_the_file_it_describes(name):
  folder = assets.folder(name)
  digest = hashlib.sha256((folder / "model.safetensors").read_bytes())
  card = (folder / "README.md").read_text()
  assert digest.hexdigest() in card
  assert re.search(r"commit: [0-9a-f]{7,}", card)
  for scores in _scores(name).values():
    assert f"{scores['accuracy']:.3f}" in card


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_is_whole(models, name):
  """As a training run would write it, and as the encoder reads pictures."""
  folder, chat = assets.folder(name), models[name].encoder.chat
  assert chat.pictures == processor.PictureSettings(nano.PIXELS)
  assert chat.eos_ids == (chat.eos_id,)
  for file, expected in (
    ("preprocessor_config.json", folder_files.preprocessor_config(chat)),
    ("generation_config.json", folder_files.generation_config(chat)),
  ):
    assert json.loads((folder / file).read_text()) == expected


def test_the_study_has_something_to_show():
  base, teacher = _scores("nano-base"), _scores("nano-teacher")
  assert 0.15 <= base["in_domain"]["accuracy"] <= 0.45
  assert teacher["in_domain"]["accuracy"] > 0.80


@pytest.mark.xfail(
  strict=True, reason="nano-base does not read clocks: 13 %, the aim is 15"
)
def test_the_base_has_something_to_lose_out_of_domain():
  accuracy = _scores("nano-base")["out_of_domain"]["accuracy"]
  assert 0.15 <= accuracy <= 0.60


# `make nano` writes both at once.
@pytest.mark.parametrize(
  "name",
  ["nano-base", pytest.param("nano-teacher", marks=pytest.mark.slow)],
)
def test_scores_are_those_of_the_stored_weights(models, name):
  found = _accuracy(models[name], WorldRows(diagrams.VALIDATION, 140))
  expected = _scores(name)["in_domain"]["accuracy"]
  # 140 problems: the standard error is at most sqrt(0.25 / 140) = 0.042.
  assert abs(found - expected) < 0.13


@pytest.mark.slow
def test_a_blind_model_falls_to_chance(models):
  """With another problem's picture, the answer is a guess."""
  rows = [WorldRows(diagrams.VALIDATION, 140)[i] for i in range(140)]
  # The same family seven rows on: the question fits, the numbers do not.
  shuffled = [
    dataclasses.replace(row, images=rows[(i + 7) % len(rows)].images)
    for i, row in enumerate(rows)
  ]
  blind = _accuracy(models["nano-teacher"], shuffled)
  # No answer to an in-domain question is right for more than 12 % of its
  # problems (tests/data/diagrams_test.py), and a wrong reading is no answer.
  assert blind < 0.08


def test_transformers_loads_and_agrees(models):
  torch = pytest.importorskip("torch", reason="torch is the parity reference")
  import transformers

  folder = assets.folder("nano-base")
  theirs = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
    folder, dtype=torch.float32, attn_implementation="eager"
  ).eval()
  model = models["nano-base"]
  ids = np.array([model.encoder.chat.prompt("Find the third angle x.")])
  with torch.no_grad():
    expected = theirs(input_ids=torch.tensor(ids)).logits.numpy()
  from jaxvlm.models.qwen2_5_vl import batch_from_hf, logits

  found = logits(model.config, model.params, batch_from_hf(model.config, ids))
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_unknown_name_lists_what_ships():
  with pytest.raises(FileNotFoundError, match="nano-teacher"):
    assets.folder("nano-huge")
