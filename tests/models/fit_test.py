"""A tokenizer and a model that do not belong together are named."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxvlm import models
from jaxvlm.data import chat as chats
from jaxvlm.models import qwen2_5_vl
from jaxvlm.tools import folder as folders
from tests import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("model")
  return folder, tiny.write_folder(folder)


def test_the_files_of_one_folder_fit(model):
  folder, config = model
  chat = chats.load(folder, config.layout)
  models.check_chat(folder, config, chat)
  padded = dataclasses.replace(config, vocab_size=config.vocab_size + 64)
  models.check_chat(folder, padded, chat)  # as published models are


def test_what_does_not_fit_is_named(model):
  folder, config = model
  chat = chats.load(folder, config.layout)
  other = dataclasses.replace(config, image_token_id=3)
  with pytest.raises(ValueError, match=f"{folder} .*image token .*expected 3"):
    models.check_chat(folder, other, chat)
  coarse = dataclasses.replace(
    config, vision=dataclasses.replace(config.vision, window_size=112)
  )
  with pytest.raises(ValueError, match="geometry of pictures"):
    models.check_chat(folder, coarse, chat)


def test_tokens_without_a_row_are_named_before_anything_runs(model):
  folder, config = model
  tokenizer = chats.load(folder, config.layout).tokenizer
  known = len(tokenizer)  # of a small corpus; up to the model's 512 rows fit
  tokenizer.add_tokens([f"<{i}>" for i in range(known, 514)])
  tokenizer.save_pretrained(folder)
  with pytest.raises(
    ValueError, match=r"2 token\(s\) .*'<51[23]>'.*vocab_size 512.*resize"
  ):
    folders.describe(str(folder))


def test_a_folder_that_is_loaded_says_that_its_head_is_its_own(tmp_path):
  config = tiny.write_folder(tmp_path, vocab_size=300)
  untied = dataclasses.replace(config, tie_word_embeddings=False)
  params = jax.tree.map(np.asarray, tiny.params(untied, 1))
  qwen2_5_vl.save_pretrained(tmp_path, untied, params)
  file = tmp_path / "config.json"
  fields = json.loads(file.read_text()) | {"tie_word_embeddings": True}
  file.write_text(json.dumps(fields))
  loaded = folders.load(str(tmp_path))
  assert loaded.config == untied and "lm_head" in loaded.params["model"]
