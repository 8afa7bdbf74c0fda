"""nano-scenes: small, whole, sees its pictures and captions them poorly."""

import hashlib
import json
import re

import jax
import numpy as np
import pytest

from experiments.nano import config as nano
from jaxvlm import assets, models
from jaxvlm.data import chat as chats
from jaxvlm.data import folder_files, processor, scenes
from jaxvlm.data import rows as rows_lib
from jaxvlm.data.sources.scenes import Captions, SceneRows
from jaxvlm.rollout import statistics
from jaxvlm.tasks import scenes as scenes_task
from jaxvlm.tasks import score

NAME = "nano-scenes"
COUNT = 32


@pytest.fixture(scope="module")
def loaded():
  folder = assets.folder(NAME)
  config, params = models.load_pretrained(folder)
  encoder = nano.encoder(chats.load(folder, config.layout), nano.SCENES)
  return config, params, encoder


def test_it_is_small_and_whole(loaded):
  _, params, encoder = loaded
  folder, chat = assets.folder(NAME), encoder.chat
  assert sum(x.size for x in jax.tree.leaves(params)) <= 1_500_000
  _, stored = models.load_pretrained(folder, None)
  assert {str(x.dtype) for x in jax.tree.leaves(stored)} == {"bfloat16"}
  assert chat.pictures == processor.PictureSettings(nano.PIXELS)
  assert chat.eos_ids == (chat.eos_id,)
  for file, expected in (
    ("preprocessor_config.json", folder_files.preprocessor_config(chat)),
    ("generation_config.json", folder_files.generation_config(chat)),
  ):
    assert json.loads((folder / file).read_text()) == expected


def test_every_word_of_the_world_is_a_token(loaded):
  chat = loaded[-1].chat
  for index in range(100):
    for caption in scenes.sample(scenes.VALIDATION, index).references:
      # … and the end of the turn.
      assert len(chat.completion(caption)) <= len(caption.split()) + 1


def test_its_card_describes_it():
  folder = assets.folder(NAME)
  digest = hashlib.sha256((folder / "model.safetensors").read_bytes())
  card = (folder / "README.md").read_text()
  assert digest.hexdigest() in card
  assert re.search(r"commit: [0-9a-f]{7,}", card)
  scores = json.loads((folder / "scores.json").read_text())["validation"]
  for name in ("exact", "meaning", "CIDEr"):
    assert f"{scores[name]:.3f}" in card


def test_it_captions_poorly():
  """There is something to learn, and something that is known."""
  folder = assets.folder(NAME)
  scores = json.loads((folder / "scores.json").read_text())["validation"]
  assert scores["exact"] < 0.6
  # What a right caption of another picture says of this one is chance.
  task = scenes_task.task()
  rows = task.rows("validation")[:200]
  others = [
    row.responses[0]
    for row in SceneRows(scenes.VALIDATION, range(1, 201), Captions())
  ]
  chance = score(task, others, rows)["meaning"]
  spread = chance.std() / np.sqrt(len(chance))
  assert chance.mean() + 5 * spread < scores["meaning"] < 0.9


def test_it_sees(loaded):
  """A right caption is likelier beside its own picture than beside others."""
  config, params, encoder = loaded
  rows = SceneRows(scenes.VALIDATION, range(COUNT), Captions())
  host = rows_lib.make_batch(rows[:], None, encoder.buckets[0], encoder)
  batch = host.batch
  turned = {
    name: np.roll(getattr(batch.prompts, name), 1, axis=0)
    for name in ("patches", "patch_segments", "patch_positions")
  }
  score = jax.jit(
    lambda params, batch: (
      statistics(
        models.bind(config), params, batch, vocab_size=encoder.chat.vocab_size
      ).logprobs
    )
  )
  own = np.where(batch.mask, score(params, batch), 0).sum((1, 2))
  other = batch._replace(prompts=batch.prompts._replace(**turned))
  others = np.where(batch.mask, score(params, other), 0).sum((1, 2))
  assert (own > others).mean() > 0.8
  assert (own - others).mean() > 3  # nats a caption
